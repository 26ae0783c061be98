"""The ending of a command that does not go as it should: one sentence, and an exit code.

Exit code 1 is only ever a verb's own answer (a cell failed, a row regressed). Errors that nobody
foresaw are bugs: they keep their traceback, and have a code of their own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

from harness.disk import scratch
from harness.disk.writing import is_full
from harness.errors import UserError
from harness.words import told

USER_ERROR = 2
BUG = 70
CLOSED = 128 + signal.SIGPIPE
STOPS = {signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
"""Signals that stop a command like Ctrl-C does, with the word for each."""
_OF_THE_SYSTEM = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG, errno.EFBIG),
        *(errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT),
    }
)
"""Errors that come from the machine or from permissions, and are no bug."""
_NO_MEMORY = ("can't allocate memory", "out of memory")


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)


def heed_signals() -> None:
    """Let the signals that stop a command do so as Ctrl-C does, unless they are ignored."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    for number in STOPS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)


def end(error: BaseException, remark: str = "") -> int:
    """Say on stderr in one sentence why the command ends, and return its exit code.

    Args:
        error: The error that ended it; a bug's traceback is printed before the sentence.
        remark: A sentence more for one who stopped it.
    """
    sentence, code = _told(error)
    if code > 128 and remark:
        sentence = f"{sentence} {remark}"
    with contextlib.suppress(OSError):  # stderr is closed too, or full
        if code == BUG:
            lines = "".join(traceback.format_exception(error)).splitlines()
            sys.stderr.write("".join(f"{told(line)}\n" for line in lines))
        sys.stderr.write(f"moebench: {told(sentence)}\n")
        sys.stderr.flush()
    settle_output()
    return code


def leave(code: str | int | None) -> NoReturn:
    """End the process with an exit code; one that was stopped ends at once.

    Clearing away all that was imported takes Python seconds, and where Ctrl-C came in the middle of
    an import it would end with the signal and not with the code.
    """
    if isinstance(code, int) and code > 128:
        scratch.tidy()
        os._exit(code)
    sys.exit(code)


def settle_output() -> OSError | None:
    """Write what waits for stdout; where that fails it is dropped, and the error returned."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        return error
    return None


def _told(error: BaseException) -> tuple[str, int]:
    """The sentence on an error, and the exit code."""
    match error:
        case UserError():
            return str(error), USER_ERROR
        case Stopped():
            return f"{STOPS[error.number]}.", 128 + error.number
        case KeyboardInterrupt():
            return "interrupted.", 128 + signal.SIGINT
        case BrokenPipeError():
            return "the output was closed before all of it was written.", CLOSED
        case SystemExit():
            return "this is a bug: code that was called wanted to end the process.", BUG
    if _no_memory(error):
        return "no memory is left; free some, or choose something smaller.", USER_ERROR
    place = ""
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else "the output cannot be written: "
        if error.errno in _OF_THE_SYSTEM:
            return f"{place}{error.strerror}.", USER_ERROR
    if is_full(error):
        return f"{place}no space left on the device; make room and start again.", USER_ERROR
    return (
        f"this is a bug in moebench, or in a method or library that it called "
        f"({type(error).__name__}); the lines above belong into its report.",
        BUG,
    )


def _no_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    ):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _NO_MEMORY)
