"""The results folder of a suite, `results/<suite>/`, written so that no crash can damage it.

    records/<cell>.json       one record per cell, complete or absent
    items/<cell>.jsonl.gz     the outcome of every item, written before its record
    records.jsonl.gz          all records archived, and beside it items.jsonl.gz; see `archive`
    suite.toml, cells.json    what ran last: the file, and its cells in order
    leaderboard.*, plots      derived from the records
    .lock                     held by the one run that may write here

Archived and loose records may stand side by side; of one cell the loose record counts, with its
items.
Every file is written beside its place under a hidden name, flushed to the disk and renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.cache.writing import no_space, put
from harness.errors import UserError, first_fault, nearest
from harness.records.archive import Archive, compressed_items, compressed_records
from harness.records.protocol import Protocol
from harness.records.reading import damaged, read_record, record_text
from harness.records.record import Item, Record

_REDO = "Delete it and the record of its cell to have the cell run again."


class PlannedCell(BaseModel):
    """One cell of the last run, whether it has a record yet or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    model: str
    row: str
    seed: int
    older: str = ""
    """Reason why the cell's record is not of today's code and data; empty where it is, and where
    there is no record."""


class Plan(BaseModel):
    """The cells that ran last in a results folder; a leaderboard shows their records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    title: str
    protocol: Protocol
    cells: tuple[PlannedCell, ...]


class Store:
    """The results folder of one suite."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._archive = Archive(folder)
        self.work = folder / ".work"
        """Folder of the artifact and the logs of the cell that is running."""
        self.artifacts = folder / "artifacts"
        """Folder of the artifacts that a run was asked to keep."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one run, and clear away what a dead one left.

        Raises:
            UserError: another run holds it; names its process.
        """
        with no_space(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a+", encoding="ascii") as lock:
            self._take(lock)
            self._sweep()
            try:
                yield
            finally:
                shutil.rmtree(self.work, ignore_errors=True)

    def _take(self, lock: TextIO) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise UserError(
                f"{self.folder}: process {owner} is running a suite here. "
                "Wait for it, or choose another results folder."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()

    def _sweep(self) -> None:
        for leftover in self.folder.rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)

    def cells(self) -> list[str]:
        """Return the ids of all cells that have a record, sorted.

        Raises:
            UserError: the archive is damaged.
        """
        return sorted({*self._archive.records, *self._loose()})

    def read(self, cell: str) -> Record | None:
        """Return the record of a cell, or None when it has none.

        Raises:
            UserError: the record is damaged, or of a newer moebench.
        """
        path = self._record(cell)
        return read_record(path) if path.exists() else self._archive.records.get(cell)

    def records(self) -> list[Record]:
        """Return all records there are, of this and of earlier runs, sorted by cell."""
        loose = {cell: read_record(self._record(cell)) for cell in self._loose()}
        records = {**self._archive.records, **loose}
        return [records[cell] for cell in sorted(records)]

    def items(self, cell: str) -> list[Item]:
        """Return the outcome of every item of a cell; empty when it has none.

        Raises:
            UserError: they are damaged.
        """
        # Archived items are of the archived record, never of a loose one that replaced it.
        if cell in self._archive.records and not self._record(cell).exists():
            return list(self._archive.items.get(cell, ()))
        path = self._items(cell)
        if not path.exists():
            return []
        try:
            lines = gzip.decompress(path.read_bytes()).splitlines()
            return [Item.model_validate_json(line) for line in lines]
        except (OSError, EOFError, zlib.error):
            raise damaged(path, "it cannot be unpacked to its end", _REDO) from None
        except ValidationError as error:
            raise damaged(path, first_fault(error, Item).text, _REDO) from None

    def write(self, record: Record, items: Sequence[Item] = ()) -> None:
        """Store a cell's result; the record comes last, so it never stands without its items."""
        if items:
            lines = "".join(item.model_dump_json() + "\n" for item in items)
            self.put(self._items(record.cell), gzip.compress(lines.encode(), mtime=0))
        self.put(self._record(record.cell), record_text(record, indent=1).encode())

    def archive(self) -> int:
        """Put all records and items into the two compressed files, and return how many records.

        The loose files are deleted once the compressed ones are on the disk. Hold the folder's
        lock while it works.

        Raises:
            UserError: there is no record, one is damaged, or the disk is full.
        """
        records = self.records()
        if not records:
            raise UserError(f"{self.folder}: no records to archive. Run 'moebench run' first.")
        outcomes = {record.cell: self.items(record.cell) for record in records}
        items = {cell: lines for cell, lines in outcomes.items() if lines}
        if items:
            self.put(self._archive.items_path, compressed_items(items))
        self.put(self._archive.records_path, compressed_records(records))
        if not items:
            self._archive.items_path.unlink(missing_ok=True)
        self._archive = Archive(self.folder)
        for record in records:
            self._record(record.cell).unlink(missing_ok=True)
            self._items(record.cell).unlink(missing_ok=True)
        for folder in ("records", "items"):
            with contextlib.suppress(OSError):  # what else lies there stays there
                (self.folder / folder).rmdir()
        return len(records)

    def empty(self) -> UserError:
        """Return the sentence for a folder without results, with the nearest that has some."""
        others = [path.parent.name for path in self.folder.parent.glob("*/cells.json")]
        return UserError(
            f"{self.folder}: no results here.{nearest(self.folder.name, others)} "
            "Run 'moebench run' first."
        )

    def plan(self) -> Plan:
        """Return the plan of the run that was last here.

        Raises:
            UserError: there was none, or its file is damaged.
        """
        path = self.folder / "cells.json"
        if not path.exists():
            raise self.empty()
        try:
            return Plan.model_validate_json(path.read_bytes())
        except ValidationError as error:
            remedy = "Run the suite again to rewrite it."
            raise damaged(path, first_fault(error, Plan).text, remedy) from None

    def planned(self) -> list[Record]:
        """Return the records of the plan, in its order, under the present names of their rows."""
        records = ((cell, self.read(cell.id)) for cell in self.plan().cells)
        return [record.model_copy(update={"row": cell.row}) for cell, record in records if record]

    def begin(self, plan: Plan, suite: str) -> None:
        """Write down what is about to run: its cells, and the suite's text."""
        self.put(self.folder / "suite.toml", suite.encode())
        self.put(self.folder / "cells.json", (plan.model_dump_json(indent=1) + "\n").encode())

    def put(self, path: Path, data: bytes) -> None:
        """Write a file so that it is either complete or absent.

        Raises:
            UserError: the disk is full; what was there before still is.
        """
        with no_space(path):
            put(path, data)

    def _loose(self) -> list[str]:
        return [path.stem for path in (self.folder / "records").glob("*.json")]

    def _record(self, cell: str) -> Path:
        return self.folder / "records" / f"{cell}.json"

    def _items(self, cell: str) -> Path:
        return self.folder / "items" / f"{cell}.jsonl.gz"
