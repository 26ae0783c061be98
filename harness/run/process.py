"""One process per cell, started from a server that has the heavy imports behind it.

Importing torch, transformers and lm-eval costs several seconds of CPU; the fork server pays them
once and runs no tensor code, so that every cell still begins in a fresh process. A worker that is
killed becomes a failed record, and a worker never outlives the run that started it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from harness.errors import UserError
from harness.records.record import Record
from harness.run.job import Job, Outcome, Say

Execute = Callable[[Job, Say], Outcome]

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
"""Modules that the fork server imports for all workers; of a wrong name it says nothing."""
_LOG_LINES = 20
"""Last lines of its log that the record of a dead worker keeps."""
_GOODBYE = 10.0
"""Seconds that a worker has to end by itself once it has answered."""


def start_server() -> None:
    """Start importing in the background; call it once the environment is as workers need it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    multiprocessing.forkserver.ensure_running()


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
    context = multiprocessing.get_context("forkserver")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(job, writer, execute), daemon=True)
    process.start()
    writer.close()  # or the end of the worker would never be seen
    phase = "starting"
    try:
        while True:
            message = reader.recv()
            if isinstance(message, UserError):
                raise message
            if isinstance(message, Outcome):
                process.join(_GOODBYE)
                return message
            phase = message
            on_phase(phase)
    except EOFError:
        process.join()
        return Outcome(_died(job, process.exitcode, phase, time.perf_counter() - started))
    finally:
        reader.close()
        if process.is_alive():
            process.kill()
        process.join()


def _died(job: Job, code: int | None, phase: str, seconds: float) -> Record:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        reason = f"The worker was killed by {name} while {phase}."
        if -code == signal.SIGKILL:
            reason += " The system probably ran out of memory."
    else:
        reason = f"The worker ended with exit code {code} while {phase}."
    with contextlib.suppress(OSError):
        lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
        reason = "\n".join([reason, *lines[-_LOG_LINES:]])
    return job.cell.record("failed", seconds, reason=reason)


def _serve(
    job: Job,
    connection: Connection,
    execute: Execute | None,
) -> None:
    # Ctrl-C reaches the whole group; the run decides, and kills this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _redirect_output(job.log)
    try:
        answer: Outcome | UserError = (execute or _worker())(job, connection.send)
    except UserError as error:
        answer = error
    connection.send(answer)


def _worker() -> Execute:
    from harness.run.worker import execute

    return execute


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


def _redirect_output(log: Path) -> None:
    """Send everything printed, by C libraries too, to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
