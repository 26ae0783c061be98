"""Records read from their files; damage becomes one sentence that says what happens next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import UserError, first_fault
from harness.records.digest import sealed, unsealed
from harness.records.migrations import migrated
from harness.records.record import FORMAT, Record

AGAIN = "The next 'moebench run' runs its cell again."
"""Sentence on what follows from damage to a file of one cell."""
CHANGED = "it is not what was written: its digest is another"


class Damaged(UserError):
    """A file of a results folder, or a line of one, that is not what was written."""


def damaged(where: Path | str, why: str, remedy: str = AGAIN) -> Damaged:
    """Return the sentence for a damaged file."""
    return Damaged(f"{where}: damaged ({why}). {remedy}")


def read_record(path: Path) -> Record:
    """Return the record in a file of its own.

    Raises:
        Damaged: it is not what was written, or of another cell.
        UserError: it is of a newer moebench.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise damaged(path, error.strerror or "it cannot be read") from None
    record = parse_record(data, str(path))
    if record.cell != path.stem:
        raise damaged(path, f"it is the record of cell {record.cell}")
    return record


def parse_record(data: bytes, where: str, remedy: str = AGAIN) -> Record:
    """Return the record that a JSON text holds, in today's format.

    Args:
        data: The text, UTF-8.
        where: File, or file and line, with which a sentence begins.
        remedy: What follows from damage; a sentence.

    Raises:
        Damaged: the text is not what was written, or a value cannot be.
        UserError: the record is of a newer moebench.
    """
    values, right = unsealed(parse_object(data, where, remedy))
    if right is False:
        raise damaged(where, CHANGED, remedy)
    format_ = values.get("format")
    if type(format_) is not int or format_ < 1:
        raise damaged(where, f"format should be 1 to {FORMAT}, not {json.dumps(format_)}", remedy)
    if format_ > 1 and right is None:
        raise damaged(where, "it has no digest", remedy)
    if format_ > FORMAT:
        raise UserError(
            f"{where}: has record format {format_}, and this moebench reads {FORMAT}. "
            "Use the moebench that wrote it, or delete it to have its cell run again."
        )
    try:
        return Record.model_validate(migrated(values, format_))
    except ValidationError as error:
        raise damaged(where, first_fault(error, Record).text, remedy) from None


def parse_object(data: bytes, where: Path | str, remedy: str = AGAIN) -> dict[str, Any]:
    """Return the object that a JSON text holds.

    Raises:
        Damaged: the text is no JSON, or no object.
    """
    try:
        values = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise damaged(where, "it is not JSON, or is cut short", remedy) from None
    if not isinstance(values, dict):
        raise damaged(where, "it is no JSON object", remedy)
    return values


def record_text(record: Record, *, indent: int | None = None) -> str:
    """Return a record, its digest included, as JSON text with a line break at its end.

    Args:
        record: The record.
        indent: Blanks per level; None for a text of one line.
    """
    separators = (",", ":") if indent is None else None
    values = sealed(record.model_dump(mode="json"))
    return json.dumps(values, indent=indent, separators=separators, ensure_ascii=False) + "\n"
