"""A results folder archived: its records in one compressed file, its items in another.

    records.jsonl.gz    one record a line, sorted by cell
    items.jsonl.gz      the outcome of one item on one cell a line

The lines of items go item by item, and the cells of one item by their ids: they are alike then,
which makes the file a third of what it is cell by cell. Equal contents are equal bytes.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import first_fault
from harness.records.reading import damaged, parse_record, record_text
from harness.records.record import Item, Record

_AGAIN = "Fetch it again, or delete it to have its cells run again."


class ArchivedItem(BaseModel):
    """One item of one cell: a line of the archived items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str
    outcome: Item


class Archive:
    """The two compressed files of a results folder, read when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.records_path = folder / "records.jsonl.gz"
        self.items_path = folder / "items.jsonl.gz"

    @cached_property
    def records(self) -> Mapping[str, Record]:
        """Records by cell id; none where there is no file.

        Raises:
            UserError: the file is damaged, or of a newer moebench.
        """
        records: dict[str, Record] = {}
        for where, line in _lines(self.records_path):
            record = parse_record(line, where, _AGAIN)
            if records.setdefault(record.cell, record) is not record:
                raise damaged(where, f"cell {record.cell} stands there twice", _AGAIN)
        return records

    @cached_property
    def items(self) -> Mapping[str, list[Item]]:
        """Items by cell id, in the order of their evaluation; none where there is no file.

        Raises:
            UserError: the file is damaged.
        """
        items: dict[str, list[Item]] = {}
        for where, line in _lines(self.items_path):
            try:
                parsed = ArchivedItem.model_validate_json(line)
            except ValidationError as error:
                raise damaged(where, first_fault(error, ArchivedItem).text, _AGAIN) from None
            items.setdefault(parsed.cell, []).append(parsed.outcome)
        return items


def compressed_records(records: Sequence[Record]) -> bytes:
    """Return the compressed file of these records, each of a cell of its own."""
    ordered = sorted(records, key=lambda record: record.cell)
    return _packed(record_text(record) for record in ordered)


def compressed_items(items: Mapping[str, Sequence[Item]]) -> bytes:
    """Return the compressed file of the items of these cells."""
    columns = [
        [ArchivedItem(cell=cell, outcome=item) for item in items[cell]] for cell in sorted(items)
    ]
    rounds = zip_longest(*columns)
    lines = (line for outcomes in rounds for line in outcomes if line is not None)
    return _packed(line.model_dump_json() + "\n" for line in lines)


def _packed(lines: Iterator[str]) -> bytes:
    return gzip.compress("".join(lines).encode(), mtime=0)


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield file and line number, and the line; nothing where there is no file."""
    if not path.exists():
        return
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error):
        raise damaged(path, "it cannot be unpacked to its end", _AGAIN) from None
    if not data:
        raise damaged(path, "it is empty", _AGAIN)
    for number, line in enumerate(data.splitlines(), 1):
        yield f"{path}:{number}", line
