"""Records read from their files; damage becomes one sentence that says what happens next."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.disk import reading
from harness.disk.reading import BadFile
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
        data = reading.read_bytes(path)
    except BadFile as error:
        raise damaged(path, error.why) from None
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


def read_object(path: Path, remedy: str = AGAIN) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        Damaged: as `parse_object`, or the file cannot be read.
    """
    try:
        return parse_object(reading.read_bytes(path), path, remedy)
    except BadFile as error:
        raise damaged(path, error.why, remedy) from None


def parse_object(data: bytes, where: Path | str, remedy: str = AGAIN) -> dict[str, Any]:
    """Return the object that a JSON text holds.

    Raises:
        Damaged: the text is no JSON, or no object.
    """
    try:
        return reading.parse_object(data, str(where))
    except BadFile as error:
        raise damaged(where, error.why, remedy) from None


def unpacked_lines(path: Path, remedy: str = AGAIN) -> list[bytes]:
    """Return the lines of a compressed file; none where there is no file.

    Raises:
        Damaged: it cannot be unpacked to its end.
    """
    if not os.path.lexists(path):
        return []
    try:
        return reading.unpacked(reading.read_bytes(path), str(path)).splitlines()
    except BadFile as error:
        raise damaged(path, error.why, remedy) from None


def record_text(record: Record, *, indent: int | None = None) -> str:
    """Return a record, its digest included, as JSON text with a line break at its end.

    Args:
        record: The record.
        indent: Blanks per level; None for a text of one line.
    """
    separators = (",", ":") if indent is None else None
    values = sealed(record.model_dump(mode="json"))
    return json.dumps(values, indent=indent, separators=separators, ensure_ascii=False) + "\n"
