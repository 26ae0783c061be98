"""Records read from their files; damage becomes one sentence that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ValidationError

from harness.errors import UserError, first_fault
from harness.records.record import FORMAT, Record

AGAIN = "Delete it to have its cell run again."
"""The remedy for a damaged file that holds one cell."""


class _Format(BaseModel):
    """The one field that tells which moebench wrote a record; the others are not looked at."""

    format: int


def read_record(path: Path) -> Record:
    """Return the record in a file of its own.

    Raises:
        UserError: the record is damaged, of another cell, or of a newer moebench.
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
    """Return the record that a JSON text holds.

    Args:
        data: The text, UTF-8.
        where: File, or file and line, with which a sentence begins.
        remedy: What to do about damage; a sentence.

    Raises:
        UserError: the text is no record of this moebench.
    """
    try:
        format_ = _Format.model_validate_json(data).format
        if format_ == FORMAT:
            return Record.model_validate_json(data)
    except ValidationError as error:
        raise damaged(where, first_fault(error, Record).text, remedy) from None
    raise UserError(
        f"{where}: has record format {format_}, and this moebench reads {FORMAT}. "
        f"Use the moebench that wrote it. {remedy}"
    )


def record_text(record: Record, *, indent: int | None = None) -> str:
    """Return a record as JSON text with a line break at its end.

    Args:
        record: The record.
        indent: Blanks per level; None for a text of one line.
    """
    separators = (",", ":") if indent is None else None
    values = record.model_dump(mode="json")
    return json.dumps(values, indent=indent, separators=separators, ensure_ascii=False) + "\n"


def damaged(where: Path | str, why: str, remedy: str = AGAIN) -> UserError:
    """Return the sentence for a damaged file."""
    return UserError(f"{where}: damaged ({why}). {remedy}")


class Damaged(UserError):
    """A file of results that cannot be what was written; its cell runs again."""
