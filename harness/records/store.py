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
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.disk import links, scratch
from harness.disk.reading import BadFile, decoded, read_bytes
from harness.disk.writing import no_space, obstacle, put
from harness.errors import UserError, first_fault, nearest
from harness.records.archive import AGAIN as FETCH
from harness.records.archive import Archive
from harness.records.digest import digest_of_lines, sealed, unsealed
from harness.records.items import Line, lines_of, parse_items
from harness.records.loose import Loose, compressed_lines
from harness.records.protocol import Protocol
from harness.records.reading import AGAIN, CHANGED, Damaged, damaged, read_object, record_text
from harness.records.record import CellId, Item, Record

_REWRITE = "Run the suite again to rewrite it."


class PlannedCell(BaseModel):
    """One cell of the last run, whether it has a record yet or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: CellId
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
    suite_sha256: str = ""
    """Hash of the suite's file beside the plan; empty in plans of a moebench that took none."""


class Store:
    """The results folder of one suite."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archived = Archive(folder)
        self.loose = Loose(folder)
        """Files of single cells, which count before archived ones."""
        self.suite_path = folder / "suite.toml"
        self.work = folder / ".work"
        """Folder of the artifact and the logs of the cell that is running."""
        self.artifacts = folder / "artifacts"
        """Folder of the artifacts that a run was asked to keep."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one run, and clear away what a dead one left.

        Raises:
            UserError: another run holds it; names its process. Or a link leads out of it.
        """
        path = self.folder / ".lock"
        with no_space(self.folder):
            self.check_links()
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = links.open_own(path)
        with os.fdopen(handle, "r+", encoding="ascii", errors="replace") as lock:
            self._take(lock)
            self._sweep()
            try:
                yield
            finally:
                links.clear(self.work)

    def obstacle(self) -> str | None:
        """Return the reason why a folder that is there cannot be written; None where it can.

        Raises:
            UserError: it leads elsewhere by a link.
        """
        with no_space(self.folder):
            self.check_links()
        return obstacle(self.folder) if self.folder.is_dir() else None

    def check_links(self) -> None:
        """See that neither the folder nor one of those that are written in it is a link.

        Raises:
            OSError: one is; the reason names it.
        """
        for folder in (self.folder, *self.loose.folders, self.artifacts):
            links.check(folder / "file", self.folder.parent)

    def _take(self, lock: TextIO) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read(20).strip() or "unknown"
            raise UserError(
                f"{self.folder}: process {owner} is running a suite here. "
                "Wait for it, or choose another results folder."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()

    def _sweep(self) -> None:
        scratch.sweep(self.folder, deep=True)
        links.clear(self.work)

    def cells(self) -> list[str]:
        """Return the ids of all cells that have a record, damaged or not, sorted."""
        archived = self.archived.records
        there = (archived.whole, archived.damage, archived.newer, self.loose.cells())
        return sorted({cell for cells in there for cell in cells})

    def read(self, cell: str) -> Record | None:
        """Return the record of a cell, or None when it has none.

        Raises:
            Damaged: the record is not what was written, or the whole archive is not.
            UserError: the record is of a newer moebench.
        """
        return self.loose.read(cell) if self.loose.has(cell) else self.archived.read(cell)

    def records(self) -> list[Record]:
        """Return all records there are, of this and of earlier runs, sorted by cell.

        Raises:
            UserError: as `read`.
        """
        return [record for cell in self.cells() if (record := self.read(cell))]

    def damage(self) -> list[Damaged]:
        """Return the damage to archived records in whose place no loose one has come."""
        archived = self.archived.records
        named = [error for cell, error in archived.damage.items() if not self.loose.has(cell)]
        return [*([archived.ruin] if archived.ruin else []), *named, *archived.nameless]

    def items(self, cell: str) -> list[Item]:
        """Return the outcome of every item of a cell; empty when it has none.

        Raises:
            Damaged: they are not what was written, or the record is not.
            UserError: they were not fetched, or the record is of a newer moebench.
        """
        return parse_items(self.lines(cell), AGAIN if self.loose.has(cell) else FETCH)

    def lines(self, cell: str) -> list[Line]:
        """Return the lines of a cell's items, checked against its record and not parsed.

        Raises:
            UserError: as `items`.
        """
        record = self.read(cell)
        if record is not None:
            # Archived items are of the archived record, never of a loose one that replaced it.
            return (self.loose if self.loose.has(cell) else self.archived).lines(record)
        path = self.loose.items_path(cell)
        archived = cell in self.archived.items.lines
        if archived or path.exists():
            path = self.archived.items_path if archived else path
            raise damaged(path, f"the record of the items of cell {cell} is missing")
        return []

    def check(self, cell: str) -> Record | None:
        """Return the record of a cell like `read`, once its items have been checked too.

        An archive without its file of items is one that was fetched without them, and passes.

        Raises:
            UserError: as `read`, and Damaged where the items are not what was written.
        """
        record = self.read(cell)
        if record is None:
            return None
        if self.loose.has(cell) or (
            self.archived.items_path.exists() and cell not in self.archived.checked
        ):
            self.lines(cell)
        return record

    def write(self, record: Record, items: Sequence[Item] = ()) -> Record:
        """Store a cell's result; the record comes last, so it never stands without its items.

        Returns:
            The record as it stands there, with the digest of its items.
        """
        lines = lines_of(items)
        record = record.model_copy(update={"items_sha256": digest_of_lines(lines)})
        if lines:
            self.put(self.loose.items_path(record.cell), compressed_lines(lines))
        self.put(self.loose.record_path(record.cell), record_text(record, indent=1).encode())
        return record

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
        if not os.path.lexists(path):
            raise self.empty()
        values, right = unsealed(read_object(path, _REWRITE))
        if right is False:
            raise damaged(path, CHANGED, _REWRITE)
        try:
            return Plan.model_validate(values)
        except ValidationError as error:
            raise damaged(path, first_fault(error, Plan).text, _REWRITE) from None

    def suite_text(self) -> str:
        """Return the text of the suite that ran last here.

        Raises:
            UserError: there was no run, or a file of it is damaged.
        """
        plan = self.plan()
        try:
            data = read_bytes(self.suite_path)
        except BadFile as error:
            raise damaged(self.suite_path, error.why, _REWRITE) from None
        if plan.suite_sha256 not in ("", hashlib.sha256(data).hexdigest()):
            raise damaged(self.suite_path, CHANGED, _REWRITE)
        return decoded(data, str(self.suite_path))

    def planned(self) -> list[Record]:
        """Return the records of the plan, in its order, under the present names of their rows."""
        records = ((cell, self.read(cell.id)) for cell in self.plan().cells)
        return [record.model_copy(update={"row": cell.row}) for cell, record in records if record]

    def begin(self, plan: Plan, suite: str) -> None:
        """Write down what is about to run: its cells, and the suite's text."""
        self.put(self.suite_path, suite.encode())
        digest = hashlib.sha256(suite.encode()).hexdigest()
        plan = plan.model_copy(update={"suite_sha256": digest})
        text = json.dumps(sealed(plan.model_dump(mode="json")), indent=1, ensure_ascii=False)
        self.put(self.folder / "cells.json", f"{text}\n".encode())

    def check_places(self, cells: Iterable[str]) -> None:
        """See that the records and items of cells can take their places.

        Raises:
            UserError: something else stands there.
        """
        places = (self.loose.record_path, self.loose.items_path)
        for path in (place(cell) for cell in cells for place in places):
            if path.is_dir():
                raise UserError(
                    f"{path}: is a folder, where a file of results belongs; move it away."
                )
            if path.parent.exists() and not path.parent.is_dir():
                raise UserError(
                    f"{path.parent}: is a file, where a folder of results belongs; move it away."
                )

    def put(self, path: Path, data: bytes) -> None:
        """Write a file so that it is either complete or absent.

        Raises:
            UserError: the disk is full; what was there before still is.
        """
        with no_space(path):
            put(path, data, below=self.folder.parent)
