"""One cell from the base model to its record; runs in a process of its own.

Every number comes from the artifact that was saved and loaded again, the baseline's too: its
artifact has no edits. So all rows went the same way, and differ by their edits only. Random weights
have no files: they are drawn after the edits, where the model runs.
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from harness.disk.writing import full, is_full
from harness.errors import Refused, UserError, first_fault
from harness.records.record import Record
from harness.run.job import Job, Outcome, Say
from harness.run.stages.order import Stages


def execute(job: Job, say: Say) -> Outcome:
    """Run the cell; whatever goes wrong in it becomes its record.

    Args:
        job: The cell, and the places where it is carried out.
        say: Told what is being done.

    Raises:
        UserError: no space is left, which is not the cell's fault.
    """
    started = time.perf_counter()
    stages = Stages(job, say)
    status: Literal["ok", "failed", "refused"] = "ok"
    reason = None
    with _heard() as heard:
        try:
            stages.run()
        except Refused as error:
            status, reason = "refused", str(error)
        except UserError as error:
            if is_full(error):
                raise full(_where(error) or job.folder) from error
            status, reason = "failed", str(error)
        except ValidationError as error:
            status, reason = "failed", f"{traceback.format_exc()}\n{_fault(error)}"
        except Exception as error:
            if is_full(error):
                raise full(_where(error) or job.folder) from error
            status, reason = "failed", traceback.format_exc()
    seconds = time.perf_counter() - started
    facts = {"reason": reason, "warnings": list(dict.fromkeys([*stages.warnings, *heard]))}
    try:
        record = job.cell.record(status, seconds, **facts, **stages.results)
    except ValidationError as error:
        return Outcome(job.cell.record("failed", seconds, **{**facts, "reason": _fault(error)}), ())
    return Outcome(record, tuple(stages.items))


def _fault(error: ValidationError) -> str:
    """The sentence on a value that no record may hold."""
    return f"A number cannot be recorded. {error.title}: {first_fault(error, Record).text}."


def _where(error: BaseException | None) -> Path | None:
    """Return the file that could not be written, where the error or its cause names it."""
    while error is not None:
        if isinstance(error, OSError) and isinstance(error.filename, str):
            return Path(error.filename)
        error = error.__cause__
    return None


class _Ear(logging.Handler):
    """Keeps what is logged as a warning or worse."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """Collect the warnings of the meantime, from `warnings` and from the harness's own loggers."""
    messages: list[str] = []
    ear, logger = _Ear(messages), logging.getLogger("harness")
    logger.addHandler(ear)
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield messages
        messages += [str(warning.message) for warning in caught]
    finally:
        logger.removeHandler(ear)
