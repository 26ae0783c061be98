"""The loose files of a results folder: a record, and the outcomes of its items, per cell."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path

from harness.records.items import Line, check_lines
from harness.records.reading import AGAIN, read_record, unpacked_lines
from harness.records.record import Record


class Loose:
    """The files of single cells below a results folder."""

    def __init__(self, folder: Path) -> None:
        self.folders = (folder / "records", folder / "items")

    def cells(self) -> list[str]:
        """Return the ids of the cells that have a record here, in any order."""
        return [path.stem for path in self.folders[0].glob("*.json")]

    def has(self, cell: str) -> bool:
        """Return True if a cell has a record here, damaged or not."""
        return "/" not in cell and os.path.lexists(self.record_path(cell))

    def read(self, cell: str) -> Record:
        """Return the record of a cell.

        Raises:
            Damaged: it is not what was written.
            UserError: it is of a newer moebench.
        """
        return read_record(self.record_path(cell))

    def lines(self, record: Record) -> list[Line]:
        """Return the lines of a record's items; none where it has none.

        Raises:
            Damaged: they are not what was written.
        """
        if record.items_sha256 is None:
            return []
        path = self.items_path(record.cell)
        packed = unpacked_lines(path)
        lines = [Line(line, path, number) for number, line in enumerate(packed, 1)]
        check_lines(lines, record, path, AGAIN)
        return lines

    def record_path(self, cell: str) -> Path:
        """Return the file of a cell's record."""
        return self.folders[0] / f"{cell}.json"

    def items_path(self, cell: str) -> Path:
        """Return the file of a cell's items."""
        return self.folders[1] / f"{cell}.jsonl.gz"


def compressed_lines(lines: Sequence[bytes]) -> bytes:
    """Return the compressed file of the items of one cell."""
    return gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
