"""Run a suite: every cell that has no result yet, one after the other, whatever happens between.

A cell is finished when its record says ok or refused, and rests on the code and the data of today.
One that failed, or whose record is damaged, is run again by the next run; of one whose code or data
have changed, the stages that they reach are. The old record stays until the new one replaces it.
The records are all the state there is, so a run that was killed goes on by being started again.
"""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cache.upkeep import in_use
from harness.disk import scratch
from harness.disk.writing import no_space, obstacle
from harness.errors import UserError, nearest
from harness.model.families.shipped import config_file
from harness.places import cache_folder, data_root_of, prepare_environment
from harness.plan.cell import Cell
from harness.plan.cells import cells
from harness.plan.check import check
from harness.plan.suite import Suite
from harness.plan.today import Today
from harness.records.basis import Basis, told
from harness.records.reading import Damaged
from harness.records.record import Record
from harness.records.store import Plan, Store
from harness.report.publish import board_of, publish
from harness.run.due import ALL, Choice, Due, reasons
from harness.run.job import Job, Outcome
from harness.run.process import run_cell
from harness.run.progress import Progress, gist
from harness.run.room import check_room
from harness.run.server import start_server

if TYPE_CHECKING:
    from harness.report.board import Leaderboard


@dataclass
class Summary:
    """Outcome of a run."""

    folder: Path
    """Folder of the suite's results."""
    cells: int
    """Number of chosen cells, those finished before included."""
    ran: list[Record] = field(default_factory=list)
    """Records of the cells that ran now."""
    kept: int = 0
    """Number of chosen cells whose records are of other code or data, and were asked to be kept."""
    board: Leaderboard | None = None

    @property
    def failed(self) -> list[Record]:
        """Records of the cells that ran now and have no result."""
        return [record for record in self.ran if record.status == "failed"]

    def sentence(self) -> str:
        """Say in one sentence how the run ended."""
        refused = sum(record.status == "refused" for record in self.ran)
        noun = "cell" if self.cells == 1 else "cells"
        before = self.cells - len(self.ran)
        text = f"{self.cells} {noun}: {len(self.ran)} run now, {before} before"
        text += f" ({self.kept} of other code or data)" if self.kept else ""
        text += f"; {refused} refused" if refused else ""
        if self.failed:
            rows = ", ".join(
                f"{r.row} (seed {r.seed}): {gist(r.reason or '')}" for r in self.failed
            )
            return f"{text}; {len(self.failed)} failed and will run again: {rows}"
        return f"{text}. Results are in {self.folder}."


def run(
    suite: Suite,
    results: Path,
    *,
    only: str | None = None,
    limit: int | None = None,
    data_root: Path | None = None,
    keep_artifacts: bool = False,
    keep_older: bool = False,
    fresh_environment: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Run what is missing of a suite, then write its leaderboard and plots.

    Args:
        suite: The suite, as `Suite.load` gives it.
        results: Folder for the results of all suites.
        only: Pattern of the cells to run (see `select`); None for all.
        limit: Items per task and windows per text, in place of the protocol's; gives cells with
            ids of their own.
        data_root: Folder with data sets as the hub lays them out; None for the embedded ones
            (reference models) or the hub.
        keep_artifacts: Leave the compressed models in the results folder.
        keep_older: Do not run again the cells whose records are of other code or data; the board
            says which they are.
        fresh_environment: Run again the cells whose records are of other versions of the libraries
            or of another processor.
        progress: Told how far the run is; None for lines on stderr.

    Raises:
        UserError: the suite is wrong, the folder is in use, the disk is full, or code or data
            change while cells that depend on them are still to run.
    """
    shown = progress or Progress()
    with shown.doing("checking the suite"):
        planned = _checked_cells(suite, data_root, limit)
        chosen = select(planned, only)
    store = Store(results / suite.name)
    summary = Summary(store.folder, len(chosen))
    choice = Choice(planned, chosen, keep_older, fresh_environment)
    if store.folder.is_dir() and (why := obstacle(store.folder)):
        return _only_read(summary, choice, store, why, shown)
    with in_use(), store.locked():
        asked, due, older = choice.compared(store)
        store.check_places(due)
        shown.tell(reasons(due, asked))
        store.begin(plan_of(suite, planned, older), suite.text)
        for number, cell in enumerate(chosen, start=1):
            if cell.id not in due:
                continue
            with shown.cell(number, len(chosen), cell):
                record = _run_one(due[cell.id], store, data_root, keep_artifacts, shown)
            shown.finished(record, cell.protocol)
            summary.ran.append(record)
            if older.pop(cell.id, None):
                store.begin(plan_of(suite, planned, older), suite.text)
        summary.kept = sum(cell.id in older for cell in chosen)
        with shown.doing("writing tables and plots"):
            summary.board = publish(store)
    return summary


def _only_read(
    summary: Summary, choice: Choice, store: Store, why: str, shown: Progress
) -> Summary:
    """Finish a run in a folder that cannot be written, where all of its cells are finished.

    Raises:
        UserError: one is not.
    """
    asked, due, older = choice.compared(store)
    if due:
        raise UserError(
            f"{store.folder}: cannot be written ({why}), and {len(due)} of {len(asked)} cells are "
            "still to run. Make it writable, make room, or choose another folder by --results."
        )
    shown.tell([f"{store.folder}: cannot be written ({why}); tables and plots stay as they are."])
    summary.kept = sum(cell.id in older for cell in choice.chosen)
    summary.board = board_of(store)
    return summary


def _checked_cells(suite: Suite, data_root: Path | None, limit: int | None) -> list[Cell]:
    """Check a suite while the fork server gets ready, and return its cells."""
    fetched = (ref for ref in suite.models if not (suite.random and config_file(ref)))
    prepare_environment(fetched, data_root)
    start_server()
    check(suite)
    check_room(suite)
    return cells(suite, data_root=data_root, limit=limit)


def _check_unchanged(cell: Cell, data_root: Path | None) -> None:
    changes = cell.basis.changes(Today(data_root).basis(cell))
    if changes:
        raise UserError(
            f"{cell.name}: changed since this run began: {told(changes)}. Start the same command "
            "again: finished cells are kept."
        )


def _run_one(
    one: Due, store: Store, data_root: Path | None, keep_artifacts: bool, shown: Progress
) -> Record:
    cell = one.cell
    _check_unchanged(cell, data_root)
    folder = store.work / cell.id
    job = Job(
        cell,
        data_root_of(cell.model.ref, data_root),
        folder,
        cache_folder(),
        earlier=_earlier(one, store),
        due=one.stages,
    )
    with no_space(folder):
        folder.mkdir(parents=True)
    try:
        outcome = run_cell(job, shown.phase)
        record = _settled(outcome.record, cell, Today(data_root).basis(cell))
        store.write(record, outcome.items if record.status == outcome.record.status else ())
        if keep_artifacts and job.artifact.exists():
            _keep(job.artifact, store.artifacts / cell.id)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        scratch.sweep(scratch.temporary())  # a worker that was killed may have left something
    return record


def _earlier(one: Due, store: Store) -> Outcome | None:
    """Return the outcome whose later stages still hold, where some do."""
    if one.record is None or one.stages == ALL or one.record.status != "ok":
        return None
    try:
        return Outcome(one.record, tuple(store.items(one.cell.id)))
    except Damaged:
        return None


def _settled(record: Record, cell: Cell, basis: Basis) -> Record:
    """Return the record with the data that the hub's cache has now; a failure where more changed.

    Data of the hub may have been fetched by the cell itself, and counts as it is now.
    """
    changes = cell.basis.changes(basis)
    if record.status == "failed" or not changes:
        return record.model_copy(update={"basis": basis}) if record.basis else record
    return cell.record(
        "failed",
        record.seconds,
        reason=f"While the cell ran, this changed: {told(changes)}. The next run does it again.",
    )


def _keep(artifact: Path, folder: Path) -> None:
    with no_space(folder), scratch.folder(folder.parent, folder.name) as before:
        if folder.exists():
            folder.replace(before / folder.name)
        artifact.replace(folder)


def plan_of(suite: Suite, planned: Sequence[Cell], older: Mapping[str, str]) -> Plan:
    """Return the plan of a run, as the results folder keeps it.

    Args:
        suite: The suite.
        planned: Its cells.
        older: Reasons why records that there are do not answer their cells today, by cell.
    """
    return Plan(
        suite=suite.name,
        title=suite.title,
        protocol=planned[0].protocol,
        cells=tuple(cell.planned(older.get(cell.id, "")) for cell in planned),
    )


def select(planned: Sequence[Cell], only: str | None) -> list[Cell]:
    """Return the cells that a pattern names; None names all.

    A row is named by a part of it or a glob; a model by a glob, with or without its owner; a cell
    by the beginning of its id. A part of a model's name would not do: "eep" is in "deepseek".

    Raises:
        UserError: it names none.
    """
    if only is None:
        return list(planned)
    text = only.lower()
    chosen = [
        cell
        for cell in planned
        if text in cell.row.lower()
        or any(fnmatch.fnmatch(name, text) for name in _names(cell))
        or cell.id.startswith(text)
    ]
    if not chosen:
        rows = dict.fromkeys(cell.row for cell in planned)
        raise UserError(
            f"{only!r} matches no cell.{nearest(only, rows)} Rows: {', '.join(rows)}.",
            argument="only",
        )
    return chosen


def _names(cell: Cell) -> tuple[str, str, str]:
    ref = cell.model.ref.lower()
    return cell.row.lower(), ref, ref.rpartition("/")[2]
