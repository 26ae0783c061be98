"""Outcomes of items as lines: one item a line, and never written in another way once written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from harness.errors import first_fault
from harness.records.digest import digest_of_lines
from harness.records.reading import damaged
from harness.records.record import UNKNOWN, Item, Record


class Line(NamedTuple):
    """The JSON of one item, and where it stands."""

    text: bytes
    path: Path
    number: int

    @property
    def where(self) -> str:
        """File and number, with which a sentence begins."""
        return f"{self.path}:{self.number}"


def lines_of(items: Iterable[Item]) -> list[bytes]:
    """Return items as lines of JSON, without line breaks."""
    return [item.model_dump_json().encode() for item in items]


def parse_items(lines: Sequence[Line], remedy: str) -> list[Item]:
    """Return the items of lines.

    Raises:
        Damaged: a line is no item.
    """
    items = []
    for line in lines:
        try:
            items.append(Item.model_validate_json(line.text))
        except ValidationError as error:
            raise damaged(line.where, first_fault(error, Item).text, remedy) from None
    return items


def check_lines(lines: Sequence[Line], record: Record, path: Path, remedy: str) -> None:
    """Check that lines are the items that a record was written with.

    Args:
        lines: All lines of the record's cell.
        record: The record, which has items.
        path: File of the lines, with which a sentence begins.
        remedy: What follows from damage; a sentence.

    Raises:
        Damaged: they are not.
    """
    if record.items_sha256 == UNKNOWN:
        return
    if not lines:
        raise damaged(path, f"the items of cell {record.cell} are missing", remedy)
    if digest_of_lines([line.text for line in lines]) != record.items_sha256:
        why = f"the items of cell {record.cell} are not what was written: their digest is another"
        raise damaged(path, why, remedy)
