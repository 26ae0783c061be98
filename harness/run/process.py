"""One process per cell, started from a server that has the heavy imports behind it.

A worker that is killed becomes a failed record, and neither a worker nor the server ever outlives
the run that started it. Where the server is killed, a worker that it has started goes on, and the
next one is started from a new server.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from harness.errors import UserError
from harness.run.job import Job, Outcome, Say
from harness.run.server import Lost, Worker, ending, start_worker
from harness.run.serving import Execute, Work

_GOODBYE = 10.0
"""Seconds that a worker has to end by itself once it has answered."""
_LOG_LINES = 20
"""Last lines of its log that the record of a dead worker keeps."""


def run_cell(
    job: Job,
    on_phase: Say = lambda phase: None,
    *,
    execute: Execute | None = None,
) -> Outcome:
    """Run one cell in a process of its own.

    Args:
        job: The cell, and the places where it is carried out.
        on_phase: Told what the worker is doing.
        execute: Function that the worker runs; None for `harness.run.worker.execute`.

    Raises:
        UserError: nothing can run until the user acts (no space left).
    """
    started = time.perf_counter()
    try:
        worker = start_worker()
    except Lost as error:
        return _failed(job, str(error), started)
    phase = "starting"
    try:
        _send(worker, (str(Path.cwd()), sys.path, job, execute))
        while (message := _next(worker)) is not None:
            if isinstance(message, str):
                phase = message
                on_phase(phase)
                continue
            worker.ended(_GOODBYE)
            if isinstance(message, UserError):
                raise message
            return message
        return _failed(job, _death(worker, phase), started)
    finally:
        worker.ended()


def _send(worker: Worker, work: Work) -> None:
    with contextlib.suppress(OSError):  # it is dead already, which the next message tells
        worker.connection.send(work)


def _next(worker: Worker) -> Outcome | UserError | str | None:
    """Return what a worker says next; None if it is dead."""
    try:
        message: Outcome | UserError | str = worker.connection.recv()
    except (EOFError, OSError):
        return None
    return message


def _death(worker: Worker, phase: str) -> str:
    code = worker.ended(_GOODBYE)
    if code is None:
        return f"The worker was lost while {phase}, and so was the server that started it."
    how, stop, rest = ending(code).partition(".")
    return f"The worker {how} while {phase}{stop}{rest}"


def _failed(job: Job, reason: str, started: float) -> Outcome:
    with contextlib.suppress(OSError):
        lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
        reason = "\n".join([reason, *lines[-_LOG_LINES:]])
    return Outcome(job.cell.record("failed", time.perf_counter() - started, reason=reason))
