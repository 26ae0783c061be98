"""Running a peer's worker: in a process group of its own, with an end, and one sentence if not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from harness.cache.keeping import keep
from harness.disk.writing import no_space
from harness.errors import Refused, UserError
from harness.peers.peer import Peer
from harness.places import cache_folder

OUTPUT = "output.log"
REFUSES, REFUSAL, FAILURE = 3, "refusal.txt", "failure.txt"
"""As `workers.peer_job` has them, which imports torch."""
TIMEOUT = "MOEBENCH_PEER_TIMEOUT"
"""Environment variable: seconds that a worker has."""
_DEFAULT = 6 * 3600.0
_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")
"""Variables of our own interpreter, which the peer's does not get."""


def work(peer: Peer, folder: Path) -> float:
    """Let the peer's worker do the job in `folder`.

    The worker ends when its standard input does, so that it never outlives this process. Where it
    fails, its output is kept in the cache.

    Returns:
        Seconds of wall clock, the peer's imports included.

    Raises:
        Refused: the peer cannot do it; its worker says why.
        UserError: the worker failed, or took longer than `MOEBENCH_PEER_TIMEOUT` seconds.
    """
    path, limit = peer.interpreter(), patience()
    log = folder / OUTPUT
    with no_space(log):
        stream = log.open("wb")
    start = time.perf_counter()
    with stream:
        process = subprocess.Popen(
            [str(path), str(peer.worker), str(folder)],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment(),
            cwd=folder,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired as error:
            raise UserError(
                f"{peer.name} was stopped after {limit:g} seconds; set {TIMEOUT} to more, or "
                f"calibrate on less{_kept(peer, log)}."
            ) from error
        finally:
            _end(process)
    refusal = folder / REFUSAL
    if code == REFUSES and refusal.is_file():
        raise Refused(f"{peer.name}: {_line(refusal)}")
    if code:
        raise UserError(f"{peer.name}: {_said(folder, log, code)}{_kept(peer, log)}.")
    return time.perf_counter() - start


def _kept(peer: Peer, log: Path) -> str:
    """Keep the worker's output in the cache, and say where; nothing where that cannot be done."""
    path = cache_folder() / "peers" / f"{peer.name}-{os.getpid()}.log"
    return f" (all of its output: {path})" if keep(path, log.read_bytes()) else ""


def patience() -> float:
    """Seconds that a worker has.

    Raises:
        UserError: the environment variable is not a number above 0.
    """
    text = os.environ.get(TIMEOUT)
    try:
        seconds = _DEFAULT if text is None else float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UserError(f"{TIMEOUT} is {text!r}; give seconds, more than 0.")
    return seconds


def environment() -> dict[str, str]:
    """The worker's environment: nothing of our interpreter, and nothing from a hub."""
    environment = {name: value for name, value in os.environ.items() if name not in _INHERITED}
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUTF8": "1"}
    # GPTQModel divides by what is left of the cores, of which two are too few.
    environment.setdefault("GPTQMODEL_CPU_WORKERS", str(max(1, os.cpu_count() or 1)))
    return environment


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the worker with all it has started."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _said(folder: Path, log: Path, code: int) -> str:
    """The error that ended the worker, the last line of its output, or the signal."""
    if code < 0:
        name = signal.Signals(-code).name
        memory = "; the system probably ran out of memory" if -code == signal.SIGKILL else ""
        return f"its worker was killed by {name}{memory}"
    error = folder / FAILURE
    if error.is_file():
        last = _line(error)
    else:
        lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"its worker ended with exit code {code}: {last.rstrip('.')[:300]}"


def _line(file: Path) -> str:
    """The contents of a file in one line."""
    return " ".join(file.read_text(encoding="utf-8").split())
