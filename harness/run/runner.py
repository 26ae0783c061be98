"""Run a suite: every cell that has no result yet, one after the other, whatever happens between.

A cell is finished when its record says ok or refused. One that failed is run again by the next
run, and its old record stays until the new one replaces it. The records are all the state there
is, so a run that was killed goes on by being started again.
"""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cache.writing import no_space
from harness.errors import UserError, nearest
from harness.model.families.shipped import config_file
from harness.places import cache_folder, data_root_of, prepare_environment
from harness.plan.cell import Cell, cells
from harness.plan.check import check
from harness.plan.suite import Suite
from harness.records.record import Record
from harness.records.store import Plan, Store
from harness.report.publish import publish
from harness.run.job import Job
from harness.run.process import run_cell, start_server
from harness.run.progress import Progress, gist
from harness.run.room import check_room

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
    progress: Progress | None = None,
) -> Summary:
    """Run what is missing of a suite, then write its leaderboard and plots.

    Args:
        suite: The suite, as `Suite.load` gives it.
        results: Folder for the results of all suites.
        only: Pattern of the cells to run (see `select`); None for all.
        limit: Items per task, in place of the protocol's; gives cells with ids of their own.
        data_root: Folder with data sets as the hub lays them out; None for the embedded ones
            (reference models) or the hub.
        keep_artifacts: Leave the compressed models in the results folder.
        progress: Told how far the run is; None for lines on stderr.

    Raises:
        UserError: the suite is wrong, the folder is in use, a record is damaged, the disk is full.
    """
    shown = progress or Progress()
    with shown.doing("checking the suite"):
        fetched = (ref for ref in suite.models if not (suite.random and config_file(ref)))
        prepare_environment(fetched, data_root)
        start_server()
        check(suite)
        check_room(suite)
        planned = cells(suite, data_root=data_root, limit=limit)
        chosen = select(planned, only)
    store = Store(results / suite.name)
    summary = Summary(store.folder, len(chosen))
    with store.locked():
        store.begin(plan_of(suite, planned), suite.text)
        for number, cell in enumerate(chosen, start=1):
            if finished(store.read(cell.id)):
                continue
            with shown.cell(number, len(chosen), cell):
                record = _run_one(cell, store, data_root, keep_artifacts, shown)
            shown.finished(record, cell.protocol)
            summary.ran.append(record)
        with shown.doing("writing tables and plots"):
            summary.board = publish(store)
    return summary


def _run_one(
    cell: Cell, store: Store, data_root: Path | None, keep_artifacts: bool, shown: Progress
) -> Record:
    folder = store.work / cell.id
    job = Job(cell, data_root_of(cell.model.ref, data_root), folder, cache_folder())
    with no_space(folder):
        folder.mkdir(parents=True)
    try:
        outcome = run_cell(job, shown.phase)
        store.write(outcome.record, outcome.items)
        if keep_artifacts and job.artifact.exists():
            _keep(job.artifact, store.artifacts / cell.id)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome.record


def _keep(artifact: Path, folder: Path) -> None:
    with no_space(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        artifact.replace(folder)


def finished(record: Record | None) -> bool:
    """Return True if a cell needs no run: a refusal is a result, a failure is not."""
    return record is not None and record.status != "failed"


def plan_of(suite: Suite, planned: Sequence[Cell]) -> Plan:
    """Return the plan of a run, as the results folder keeps it."""
    return Plan(
        suite=suite.name,
        title=suite.title,
        protocol=planned[0].protocol,
        cells=tuple(cell.planned() for cell in planned),
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
