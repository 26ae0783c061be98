"""The server that starts workers, as the run sees it; `serving` is its inside.

Importing torch, transformers and lm-eval costs several seconds of CPU; the server pays them once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe

from harness.run.serving import NUMBER

PRELOAD = (
    "torch",
    "transformers",
    "datasets",
    "fvcore.nn",
    "scipy.stats",
    "lm_eval.evaluator",
    "lm_eval.models.huggingface",
    "harness.calibration.walk",
    "harness.method.recipe",
    "harness.evaluate.scorer",
    "harness.measure.flops",
    "harness.measure.speed.compared",
    "harness.model.files.audit",
    "harness.model.files.opening",
    "harness.run.worker",
)
"""Modules that the server imports for all workers; of a wrong name it says nothing."""
_SERVE = (
    "import sys; sys.path[:] = {path!r}\n"
    "from harness.run.serving import serve\n"
    "serve({handle}, {run}, {modules!r})\n"
)
_GOODBYE = 10.0
"""Seconds that a process has to end by itself."""


class Lost(Exception):
    """The server has ended; says how."""


@dataclass
class Worker:
    """A worker that was started; it ends once its connection is closed."""

    connection: Connection
    server: Server
    pid: int
    _code: int | None = None
    _over: bool = False

    def ended(self, grace: float = 0.0) -> int | None:
        """Return the worker's exit code once it has ended; None if its server ended before it.

        Args:
            grace: Seconds that it has to end by itself before it is killed.
        """
        if not self._over:
            self._over = True
            self._code = self._wait(grace)
            self.connection.close()
        return self._code

    def _wait(self, grace: float) -> int | None:
        try:
            if grace:
                with contextlib.suppress(TimeoutError):
                    return self.server.number(grace)
            self.connection.close()
            if self.pid > 1 and self.server.living():  # 0 would be the whole group
                os.kill(self.pid, signal.SIGKILL)
            return self.server.number()
        except (Lost, ProcessLookupError):
            return None


class Server:
    """A running server; it ends when this process does, or when this object is gone."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        handle = theirs.fileno()
        code = _SERVE.format(path=sys.path, handle=handle, run=os.getpid(), modules=PRELOAD)
        with theirs, _ctrl_c_held_back():
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], pass_fds=[handle], stdin=subprocess.DEVNULL
            )

    def start(self) -> Worker:
        """Start a worker, as soon as the server has its imports behind it.

        Raises:
            Lost: the server has ended, or ends meanwhile.
        """
        ours, theirs = Pipe()
        try:
            with theirs:
                socket.send_fds(self._channel, [b"1"], [theirs.fileno()])
        except OSError:
            raise self._lost() from None
        try:
            return Worker(ours, self, self.number())
        except KeyboardInterrupt:  # the number may still come, and would be taken for another
            self._channel.close()
            self._process.kill()
            self._process.wait()
            raise

    def number(self, seconds: float | None = None) -> int:
        """Return the next number that the server says.

        Raises:
            Lost: the server has ended.
            TimeoutError: it says nothing for so many seconds.
        """
        self._channel.settimeout(seconds)
        try:
            told = self._channel.recv(NUMBER, socket.MSG_WAITALL)
        except ConnectionError:
            raise self._lost() from None
        if len(told) < NUMBER:
            raise self._lost()
        return int.from_bytes(told, "big", signed=True)

    def living(self) -> bool:
        """Return True unless the server has ended."""
        return self._process.poll() is None

    def _lost(self) -> Lost:
        self._channel.close()
        try:
            code = self._process.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return Lost(f"The server that starts workers {ending(code)}")


_server: Server | None = None


def start_server() -> Server:
    """Start importing in the background, unless a server runs; return it.

    Call it once the environment is as workers need it.
    """
    global _server
    if _server is None or not _server.living():
        _server = Server()
    return _server


def start_worker() -> Worker:
    """Start a worker; a server that has ended is replaced.

    Raises:
        Lost: one server after the other ended.
    """
    with contextlib.suppress(Lost):
        return start_server().start()
    return start_server().start()


def ending(code: int) -> str:
    """Say how a process ended, as a sentence goes on after its name."""
    if code >= 0:
        return f"ended with exit code {code}."
    killed = f"was killed by {signal.Signals(-code).name}."
    if -code == signal.SIGKILL:
        killed += " The system probably ran out of memory."
    return killed


@contextlib.contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Block Ctrl-C in this thread and in what it starts, for a moment; none is lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
