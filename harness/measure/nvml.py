"""The CUDA devices that this process may use, as NVML knows them: handles, memory, energy."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)

INTERVAL = 0.020
"""Seconds between two looks at the power, where there is no counter of energy."""

Joules = Callable[[], float]
"""Energy used so far, counted from some moment on."""


def handles() -> list[Any] | None:
    """Return NVML's handles of the visible CUDA devices in CUDA's order; opens no CUDA context.

    Returns:
        One handle per device or MIG instance; None where NVML does not answer, or where it cannot
        be told which device is meant.
    """
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        # Asked sooner, CUDA might open a context.
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
            return [_by_uuid(str(device.uuid)) for device in devices]
        return _visible(os.environ.get("CUDA_VISIBLE_DEVICES"))
    except (pynvml.NVMLError, LookupError) as error:
        logger.info("no NVML: %s", error)
        return None


def total_memory() -> int | None:
    """Return the bytes of the first visible device; None where NVML does not say."""
    import pynvml

    devices = handles()
    if not devices:
        return None
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(devices[0]).total)
    except pynvml.NVMLError as error:
        logger.info("NVML does not say: %s", error)
        return None


def _by_uuid(uuid: str) -> Any:
    """The handle of a UUID as torch gives it, without the kind of device that NVML begins with."""
    import pynvml

    try:
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError:
        return pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def _visible(names: str | None) -> list[Any]:
    """The handles of `CUDA_VISIBLE_DEVICES`; like CUDA, it stops at the first unknown device.

    Raises:
        LookupError: CUDA and NVML may number the devices differently.
    """
    import pynvml

    devices = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    if names is None:
        return _numbered(devices)
    chosen = []
    for name in (part.strip() for part in names.split(",")):
        if name.startswith("MIG-"):
            chosen.append(pynvml.nvmlDeviceGetHandleByUUID(name))
        elif name.startswith("GPU-"):  # the beginning of a UUID will do
            alike = [d for d in devices if pynvml.nvmlDeviceGetUUID(d).startswith(name)]
            if len(alike) != 1:
                break
            chosen += alike
        elif name.isdecimal() and int(name) < len(devices):
            chosen.append(_numbered(devices)[int(name)])
        else:
            break
    return chosen


def _numbered(devices: list[Any]) -> list[Any]:
    """NVML's devices, which are in the order of the PCI bus, as CUDA numbers them.

    Raises:
        LookupError: CUDA has the fastest first, and they are not all alike.
    """
    import pynvml

    by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if not by_bus and len({pynvml.nvmlDeviceGetName(device) for device in devices}) > 1:
        raise LookupError("GPUs of several kinds: set CUDA_DEVICE_ORDER=PCI_BUS_ID")
    return devices


@contextmanager
def energy(device: str) -> Iterator[Joules | None]:
    """Count the joules of all visible CUDA devices; None for other devices and without NVML.

    By the devices' own counters (millijoules, refreshed by the driver some tens of times a
    second), else by power sampled every 20 ms. Whole devices: other processes on them too.
    """
    devices = handles() if device.startswith("cuda") else None
    if not devices:
        yield None
    elif (counter := _counter(devices)) is not None:
        yield counter
    elif (watts := _power(devices)) is not None:
        with _integrated(watts) as joules:
            yield joules
    else:
        yield None


def _counter(devices: list[Any]) -> Joules | None:
    import pynvml

    def joules() -> float:
        return (
            float(sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(device) for device in devices))
            / 1000
        )

    return joules if _answers(joules) else None


def _power(devices: list[Any]) -> Callable[[], float] | None:
    import pynvml

    def watts() -> float:
        return float(sum(pynvml.nvmlDeviceGetPowerUsage(device) for device in devices)) / 1000

    return watts if _answers(watts) else None


def _answers(reader: Callable[[], float]) -> bool:
    import pynvml

    try:
        reader()
    except pynvml.NVMLError as error:
        logger.info("NVML does not say: %s", error)
        return False
    return True


@contextmanager
def _integrated(watts: Callable[[], float]) -> Iterator[Joules]:
    """The integral of a power that a thread samples meanwhile."""
    total = 0.0
    ended = threading.Event()

    def watch() -> None:
        nonlocal total
        last = time.perf_counter()
        while not ended.wait(INTERVAL):
            now = time.perf_counter()
            total += watts() * (now - last)
            last = now

    thread = threading.Thread(target=watch, name="nvml-power", daemon=True)
    thread.start()
    try:
        yield lambda: total
    finally:
        ended.set()
        thread.join()
