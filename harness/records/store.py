"""What a run leaves behind: `results/<suite>/`, written so that no crash can damage it.

    records/<cell>.json       one record per cell, complete or absent
    items/<cell>.jsonl.gz     the outcome of every item, written before its record
    suite.toml, cells.json    what ran last: the file, and its cells in order
    leaderboard.*, plots      derived from the records
    .lock                     held by the one run that may write here

Every file is written beside its place under a hidden name, flushed to the disk and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UserError
from harness.records.protocol import Protocol
from harness.records.record import FORMAT, Item, Record

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_IN_RUST = f"os error {errno.ENOSPC}"


class PlannedCell(BaseModel):
    """One cell of the last run, whether it has a record yet or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    model: str
    row: str
    seed: int


class Plan(BaseModel):
    """What ran last in a results folder; a leaderboard shows the records of these cells."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    title: str
    protocol: Protocol
    cells: tuple[PlannedCell, ...]


class Store:
    """The results folder of one suite."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / ".work"
        """Artifacts and logs of the cell that is running."""
        self.artifacts = folder / "artifacts"
        """Those that a run was asked to keep."""

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

    def read(self, cell: str) -> Record | None:
        """The record of a cell, or None when it has none.

        Raises:
            UserError: the record is damaged, or of a newer moebench.
        """
        path = self._record(cell)
        return read_record(path) if path.exists() else None

    def records(self) -> list[Record]:
        """All records there are, of this and of earlier runs, sorted by id."""
        return [read_record(path) for path in sorted((self.folder / "records").glob("*.json"))]

    def items(self, cell: str) -> list[Item]:
        """The outcome of every item of a cell; empty when it has none."""
        path = self._items(cell)
        if not path.exists():
            return []
        try:
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                return [Item.model_validate_json(line) for line in lines]
        except (OSError, EOFError, ValueError) as error:
            raise _damaged(path, error) from None

    def write(self, record: Record, items: Sequence[Item] = ()) -> None:
        """Store a cell's result; the record comes last, so it never stands without its items."""
        if items:
            lines = "".join(item.model_dump_json() + "\n" for item in items)
            self.put(self._items(record.cell), gzip.compress(lines.encode(), mtime=0))
        data = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False)
        self.put(self._record(record.cell), (data + "\n").encode())

    def plan(self) -> Plan:
        """What ran last here.

        Raises:
            UserError: nothing did, or the file is damaged.
        """
        path = self.folder / "cells.json"
        if not path.exists():
            raise UserError(f"{self.folder}: no results here. Run 'moebench run' first.")
        try:
            return Plan.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise _damaged(path, error, remedy="Run the suite again to rewrite it") from None

    def planned(self) -> list[Record]:
        """The records of what ran last here, in its order, under the rows' present names."""
        found = ((cell, self.read(cell.id)) for cell in self.plan().cells)
        return [record.model_copy(update={"row": cell.row}) for cell, record in found if record]

    def begin(self, plan: Plan, suite: str) -> None:
        """Write down what is about to run: its cells, and the suite's text."""
        self.put(self.folder / "suite.toml", suite.encode())
        self.put(self.folder / "cells.json", (plan.model_dump_json(indent=1) + "\n").encode())

    def put(self, path: Path, data: bytes) -> None:
        """Write a file so that it is either complete or absent.

        Raises:
            UserError: the disk is full; what was there before still is.
        """
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with no_space(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
                _flush_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _record(self, cell: str) -> Path:
        return self.folder / "records" / f"{cell}.json"

    def _items(self, cell: str) -> Path:
        return self.folder / "items" / f"{cell}.jsonl.gz"


def read_record(path: Path) -> Record:
    """One record from its file.

    Raises:
        UserError: it is damaged, or of a newer moebench; says what to do.
    """
    try:
        data = path.read_bytes()
        format_ = json.loads(data)["format"]
        if format_ == FORMAT:
            record = Record.model_validate_json(data)
            if record.cell != path.stem:
                raise ValueError(f"it is the record of cell {record.cell}")
            return record
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None
    raise UserError(
        f"{path}: has record format {format_!r}, and this moebench reads {FORMAT}. "
        "Use the moebench that wrote it, or delete the file to have its cell run again."
    )


@contextlib.contextmanager
def no_space(path: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into one sentence."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full(path) from None
        raise UserError(f"{path}: cannot be written: {error.strerror or error}.") from None


def is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that the disk is full."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    if _FULL_IN_RUST in str(error):  # safetensors says it in words only
        return True
    return error.__cause__ is not None and is_full(error.__cause__)


def full(path: Path) -> UserError:
    """The sentence for a full disk."""
    return UserError(
        f"{path}: no space left on the device. Make room and start the same command again: "
        "finished cells are kept."
    )


def _damaged(
    path: Path, error: Exception, remedy: str = "Delete it to have its cell run again"
) -> UserError:
    first = str(error).partition("\n")[0] or type(error).__name__
    return UserError(f"{path}: damaged ({first}). {remedy}.")


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
