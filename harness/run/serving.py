"""The inside of the server that starts workers: it imports what is heavy, then forks per cell.

It runs no tensor code, so that every worker begins as a fresh process. It ends with its run: at
once on Linux, elsewhere when it next waits for a job. A worker ends when the run closes its
connection or is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from harness.disk import scratch
from harness.disk.writing import no_space
from harness.errors import UserError
from harness.run.job import Job, Outcome, Say

Execute = Callable[[Job, Say], Outcome]
Work = tuple[str, list[str], Job, Execute | None]
"""A message to a worker: the folder it is in, `sys.path`, the job, and what carries it out
(None: `harness.run.worker.execute`)."""
NUMBER = 8
"""Bytes of a number that the server says: a worker's process, then its exit code."""
_PR_SET_PDEATHSIG = 1


def serve(handle: int, run: int, modules: Sequence[str]) -> None:
    """Import modules, then start a worker for every connection that comes, one at a time.

    Of each it says the process number, and when it has ended its exit code.

    Args:
        handle: File descriptor of the socket that leads to the run.
        run: Process number of the run.
        modules: Names of the modules; of a wrong one nothing is said.
    """
    # Ctrl-C reaches the whole group, and was held back until now; the run decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _end_with(run)
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    channel = socket.socket(fileno=handle)
    with contextlib.suppress(OSError):  # the run is gone
        while _start_one(channel):
            pass


def _end_with(run: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != run:
        os._exit(1)


def _start_one(channel: socket.socket) -> bool:
    """Start a worker and wait for its end; return False if no more will come."""
    message, handles, _, _ = socket.recv_fds(channel, 1, 1)
    if not message:
        return False
    worker = os.fork()
    if worker == 0:
        channel.close()
        _be_worker(Connection(handles[0]))
    os.close(handles[0])
    channel.sendall(worker.to_bytes(NUMBER, "big"))
    _, status = os.waitpid(worker, 0)
    code = os.waitstatus_to_exitcode(status)
    channel.sendall(code.to_bytes(NUMBER, "big", signed=True))
    return True


def _be_worker(connection: Connection) -> None:
    """Do one job, and end the process."""
    code = 1
    try:
        _work(connection)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            scratch.tidy()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _work(connection: Connection) -> None:
    work: Work = connection.recv()
    folder, sys.path[:], job, execute = work
    os.chdir(folder)
    threading.Thread(target=_end_with_run, args=(connection,), daemon=True).start()
    try:
        _redirect_output(job.log)
        answer: Outcome | UserError = (execute or _worker())(job, connection.send)
    except UserError as error:
        answer = error
    connection.send(answer)


def _end_with_run(connection: Connection) -> None:
    with contextlib.suppress(OSError):
        connection.poll(None)  # nothing comes after the job but the end
    os.kill(os.getpid(), signal.SIGKILL)


def _worker() -> Execute:
    from harness.run.worker import execute

    return execute


def _redirect_output(log: Path) -> None:
    """Send everything printed, by C libraries too, to the log."""
    with no_space(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
