"""Calls of moebench as its console script makes them: in this process, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from harness.cli import main
from harness.cli.process import endings
from harness.papers import published
from harness.run import runner, worker

PATIENCE = 180.0
"""Seconds that a call may take in this process; the slowest takes two."""
UNBLOCKED = 1.0
"""Seconds after which a reader that waits at a pipe is let go, and noted."""


@dataclass(frozen=True)
class Called:
    """The outcome of one call."""

    code: int
    out: str
    said: str
    """All that stderr got, and the harness's own warnings."""
    fault: str = ""
    """A traceback, or that it waited."""


def call(*arguments: str, pipe: Path | None = None) -> Called:
    """Call moebench in this process.

    The cells of a run are carried out here too, without the server that spares other processes
    their imports, and without figures, which `plot` draws.

    Args:
        arguments: The command line.
        pipe: A named pipe among the files, at which nothing may wait.
    """
    out, said, fault = io.StringIO(), io.StringIO(), ""
    code: object = 0
    with (
        _watched(pipe) as waited,
        _here(arguments, said),
        mock.patch.object(sys, "argv", ["moebench", *arguments]),
    ):
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
                main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            code, fault = 1, traceback.format_exc()
    if waited:
        fault = waited[0]
    return Called(code if isinstance(code, int) else 1, out.getvalue(), said.getvalue(), fault)


def call_process(*arguments: str, pipe: Path | None = None) -> Called:
    """Call moebench in a process of its own, with workers of their own."""
    with _watched(pipe) as waited:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "harness", *arguments],
                capture_output=True,
                text=True,
                check=False,
                timeout=4 * PATIENCE,
                env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
            )
        except subprocess.TimeoutExpired:
            return Called(1, "", "", "it did not end")
    fault = done.stderr if "Traceback" in done.stderr else ""
    return Called(done.returncode, done.stdout, done.stderr, waited[0] if waited else fault)


@contextlib.contextmanager
def _here(arguments: tuple[str, ...], said: io.StringIO) -> Iterator[None]:
    """Keep a run in this process, the papers' numbers on the stage, and hear warnings."""
    papers = (Path("papers"),)
    ear = logging.StreamHandler(said)
    logger = logging.getLogger("harness")
    with contextlib.ExitStack() as stack:
        patch = mock.patch.object
        stack.enter_context(patch(endings, "leave", sys.exit))  # this process is to stay
        stack.enter_context(patch(runner, "start_server"))
        stack.enter_context(patch(runner, "run_cell", worker.execute))
        if arguments[:1] == ("run",):
            stack.enter_context(mock.patch("harness.report.figures.canvas.draw", return_value=[]))
        if papers[0].is_dir():
            for function in (published.papers, published.tables):
                stack.enter_context(patch(function, "__defaults__", papers))
            stack.enter_context(patch(published.load, "__defaults__", papers))
        for number in endings.STOPS:  # which a command heeds as long as it lives
            stack.callback(signal.signal, number, signal.getsignal(number))
        logger.addHandler(ear)
        stack.callback(logger.removeHandler, ear)
        yield


@contextlib.contextmanager
def _watched(pipe: Path | None) -> Iterator[list[str]]:
    """Note what waits at a pipe, or does not end, and let it go on."""
    waited: list[str] = []
    over = threading.Event()

    def end() -> None:
        waited.append(f"it did not end within {PATIENCE:.0f} seconds")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def unblock() -> None:
        while pipe is not None and not over.wait(UNBLOCKED):
            with contextlib.suppress(OSError):  # nobody waits, or the pipe is gone
                handle = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
                if stat.S_ISFIFO(os.fstat(handle).st_mode):  # else a file took its place
                    waited.append(f"it waited at {pipe}")
                os.close(handle)

    timer = threading.Timer(PATIENCE, end)
    feeder = threading.Thread(target=unblock, daemon=True)
    timer.start()
    feeder.start()
    try:
        yield waited
    finally:
        timer.cancel()
        over.set()
        feeder.join()
