"""A results folder archived: its records in one compressed file, its items in another.

    records.jsonl.gz    one record a line, sorted by cell
    items.jsonl.gz      the outcome of one item on one cell a line

The lines of items go item by item, and the cells of one item by their ids: they are alike then,
which makes the file a third of what it is cell by cell. Equal contents are equal bytes.

A damaged line costs its cell alone; a file that cannot be unpacked costs all of its cells.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

from harness.cache import sealed
from harness.cache.notes import file_sha256
from harness.errors import UserError
from harness.places import cache_folder
from harness.records.items import Line, check_lines
from harness.records.reading import Damaged, damaged, parse_record, record_text, unpacked_lines
from harness.records.record import UNKNOWN, Record

AGAIN = "Fetch it again, or let the next 'moebench run' run its cells again."
_CELL = re.compile(rb'"cell": ?"([^"\\]+)"')
_ITEM = re.compile(rb'\{"cell":"([^"\\]+)","outcome":(\{.*\})\}')


@dataclass
class ArchivedRecords:
    """Records by cell id, and the damage among them."""

    whole: dict[str, Record] = field(default_factory=dict)
    damage: dict[str, Damaged] = field(default_factory=dict)
    """Damage to the record of a cell, by the cell's id."""
    newer: dict[str, UserError] = field(default_factory=dict)
    """Sentences on records that only a newer moebench reads, by cell."""
    nameless: list[Damaged] = field(default_factory=list)
    """Damage to lines that do not tell their cell."""
    ruin: Damaged | None = None
    """Damage to the file as a whole."""

    def spoil(self, cell: str, error: Damaged) -> None:
        """Note damage to the record of a cell, which then has none here."""
        self.whole.pop(cell, None)
        self.damage.setdefault(cell, error)


@dataclass
class ArchivedItems:
    """Lines of items by cell id, and the damage among them."""

    lines: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))
    nameless: list[Damaged] = field(default_factory=list)
    ruin: Damaged | None = None


class Archive:
    """The two compressed files of a results folder, read when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.records_path = folder / "records.jsonl.gz"
        self.items_path = folder / "items.jsonl.gz"

    @cached_property
    def records(self) -> ArchivedRecords:
        """All records that can be read; none where there is no file."""
        archived = ArchivedRecords()
        try:
            lines = list(_lines(self.records_path))
        except Damaged as error:
            archived.ruin = error
            return archived
        for line in lines:
            try:
                _keep(archived, parse_record(line.text, line.where, AGAIN), line.where)
            except Damaged as error:
                told = _CELL.search(line.text)
                if told is None:
                    archived.nameless.append(error)
                else:
                    archived.spoil(told[1].decode(errors="replace"), error)
            except UserError as error:
                if (told := _CELL.search(line.text)) is None:
                    raise
                archived.newer[told[1].decode(errors="replace")] = error
        return archived

    @cached_property
    def items(self) -> ArchivedItems:
        """The lines of all items, in the order of their evaluation; none where there is no file."""
        archived = ArchivedItems()
        try:
            for line in _lines(self.items_path):
                if told := _ITEM.fullmatch(line.text):
                    cell = told[1].decode(errors="replace")
                    archived.lines[cell].append(Line(told[2], line.path, line.number))
                else:
                    why = "it is not JSON, or is cut short"
                    archived.nameless.append(damaged(line.where, why, AGAIN))
        except Damaged as error:
            archived.ruin = error
        return archived

    @cached_property
    def checked(self) -> frozenset[str]:
        """The cells whose items are what was written, as remembered for these two files."""
        files = file_sha256(self.records_path) + file_sha256(self.items_path)
        note = cache_folder() / "archives" / hashlib.sha256(files.encode()).hexdigest()
        known = sealed.read(note, list[str])
        if known is None:
            known = [cell for cell, record in self.records.whole.items() if self._is_whole(record)]
            sealed.write(note, known)
        return frozenset(known)

    def _is_whole(self, record: Record) -> bool:
        try:
            self.lines(record)
        except Damaged:
            return False
        return True

    def read(self, cell: str) -> Record | None:
        """Return the archived record of a cell, or None when it has none.

        Raises:
            Damaged: the record is not what was written, or the whole file is not.
            UserError: the record is of a newer moebench.
        """
        archived = self.records
        if cell in archived.whole:
            return archived.whole[cell]
        if cell in archived.newer:
            raise archived.newer[cell]
        if (error := archived.damage.get(cell, archived.ruin)) is not None:
            raise error
        return None

    def lines(self, record: Record) -> list[Line]:
        """Return the lines of an archived record's items; none where it has none.

        Raises:
            Damaged: they are not what was written.
            UserError: there is no file of items.
        """
        unknown = record.items_sha256 == UNKNOWN
        if record.items_sha256 is None or (unknown and not self.items_path.exists()):
            return []
        if not self.items_path.exists():
            raise UserError(
                f"{self.items_path}: missing, and with it the items of cell {record.cell}. "
                "Fetch it: it belongs to the records beside it."
            )
        archived = self.items
        if archived.ruin is not None:
            raise archived.ruin
        if unknown and archived.nameless:  # which may be of this cell
            raise archived.nameless[0]
        lines = archived.lines.get(record.cell, [])
        try:
            check_lines(lines, record, self.items_path, AGAIN)
        except Damaged:
            if archived.nameless:
                raise archived.nameless[0] from None
            raise
        return lines


def compressed_records(records: Sequence[Record]) -> bytes:
    """Return the compressed file of these records, each of a cell of its own."""
    ordered = sorted(records, key=lambda record: record.cell)
    return _packed(record_text(record).encode() for record in ordered)


def compressed_items(lines: Mapping[str, Sequence[bytes]]) -> bytes:
    """Return the compressed file of the lines of items of these cells."""
    columns = [
        [b'{"cell":"%s","outcome":%s}\n' % (cell.encode(), line) for line in lines[cell]]
        for cell in sorted(lines)
    ]
    rounds = zip_longest(*columns)
    return _packed(line for outcomes in rounds for line in outcomes if line is not None)


def _keep(archived: ArchivedRecords, record: Record, where: str) -> None:
    if record.cell in archived.whole or record.cell in archived.damage:
        # Nobody knows which of the two was to stand there.
        raise damaged(where, f"cell {record.cell} stands there twice", AGAIN)
    archived.whole[record.cell] = record


def _packed(lines: Iterable[bytes]) -> bytes:
    return gzip.compress(b"".join(lines), mtime=0)


def _lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a compressed file; nothing where there is no file.

    Raises:
        Damaged: it cannot be unpacked.
    """
    if not os.path.lexists(path):  # a link that leads nowhere is damage
        return
    lines = unpacked_lines(path, AGAIN)
    if not lines:
        raise damaged(path, "it is empty", AGAIN)
    for number, line in enumerate(lines, 1):
        yield Line(line, path, number)
