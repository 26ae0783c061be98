"""Peak memory of what happens inside a `with` block."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from harness.measure.nvml import handles
from harness.records.record import Memory

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""Written to `clear_refs`, it sets VmHWM back to the present resident set; see proc(5)."""

INTERVAL = 0.010
"""Seconds between two looks at NVML."""

_measuring = threading.Lock()


class PeakMemory:
    """Measures the peak of this process between entry and exit.

    On the CPU the kernel keeps the peak, so none is missed however short; `slack` says how exact
    it is. On CUDA devices torch's own peak is exact for what its allocator handed out, and NVML
    is sampled from a thread every 10 ms, with one look at entry and one at exit.

    Example::

        with PeakMemory("cuda") as peak:
            lm(ids)
        peak.memory.torch_peak

    Args:
        device: The device of the model; on "cuda" every visible device is watched.

    Raises:
        RuntimeError: on entry inside another `PeakMemory`, since the kernel keeps one peak only.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._cuda = str(device).startswith("cuda")
        self._before: int | None = None
        self._nvml = NvmlPeak() if self._cuda else None
        self._memory: Memory | None = None

    @property
    def memory(self) -> Memory:
        """The result; there is none before the block has ended."""
        if self._memory is None:
            raise RuntimeError("the peak is known when the with block has ended")
        return self._memory

    def __enter__(self) -> Self:
        if not _measuring.acquire(blocking=False):
            raise RuntimeError("a process has one memory peak: PeakMemory cannot be nested")
        with ExitStack() as undo:
            undo.callback(_measuring.release)
            if self._nvml:
                _each_cuda_device("reset_peak_memory_stats")
                self._nvml.start()
            self._before = reset_rss_peak()
            undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._memory = Memory(
                rss_peak=None if self._before is None else _status("VmHWM"),
                rss_before=self._before,
                torch_peak=sum(_each_cuda_device("max_memory_allocated")) if self._cuda else None,
                nvml_peak=self._nvml.stop() if self._nvml else None,
            )
        finally:
            _measuring.release()


def reset_rss_peak() -> int | None:
    """Set the kernel's peak of this process's resident set to what is resident now.

    Returns:
        Bytes resident at the reset; None where the system has no such counter, does not let it
        be reset, or says it did and did not.
    """
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        return None
    resident, peak = _status("VmRSS"), _status("VmHWM")
    if resident is None or peak is None or peak > resident + slack():
        return None
    return resident


def slack() -> int:
    """Bytes by which the kernel's counters may be off: each core counts pages in batches."""
    cores = os.cpu_count() or 1
    return cores * max(32, 2 * cores) * os.sysconf("SC_PAGE_SIZE")


def _status(field: str) -> int | None:
    """Bytes of a field of /proc/self/status, which gives kibibytes."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    kib = next((line.split()[1] for line in lines if line.startswith(f"{field}:")), None)
    return None if kib is None else int(kib) << 10


def _each_cuda_device(function: str) -> list[Any]:
    import torch

    torch.cuda.init()  # type: ignore[no-untyped-call]
    return [getattr(torch.cuda, function)(index) for index in range(torch.cuda.device_count())]


class NvmlPeak:
    """Largest memory in use on the visible CUDA devices together, by NVML, sampled.

    It counts whole devices: CUDA contexts, allocator caches, and other processes on them.
    """

    def __init__(self) -> None:
        self._peak: int | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._used: Callable[[], int] | None = None

    def start(self) -> None:
        """Begin to sample; does nothing where NVML does not answer."""
        self._used = _nvml_reader()
        self._sample()
        if self._peak is not None:
            self._thread = threading.Thread(target=self._watch, name="nvml-peak", daemon=True)
            self._thread.start()

    def stop(self) -> int | None:
        """End, and return the peak in bytes; None where NVML did not answer every time."""
        self._ended.set()
        if self._thread:
            self._thread.join()
            self._sample()
        return self._peak

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL):
            self._sample()

    def _sample(self) -> None:
        if self._used is None:
            return
        import pynvml

        try:
            self._peak = max(self._peak or 0, self._used())
        except pynvml.NVMLError as error:
            logger.warning("NVML stopped answering: %s", error)
            self._used = self._peak = None


def _nvml_reader() -> Callable[[], int] | None:
    """A function that gives the bytes in use on the visible CUDA devices; None without NVML."""
    import pynvml

    devices = handles()
    if devices is None:
        return None
    return lambda: sum(pynvml.nvmlDeviceGetMemoryInfo(handle).used for handle in devices)
