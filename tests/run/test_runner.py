"""Runs: what is skipped, what is run again, what remains after an interruption."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from harness.errors import UserError
from harness.measure.environment import environment, surroundings
from harness.plan.cell import Cell
from harness.plan.suite import Suite
from harness.records.archiving import archive
from harness.records.basis import STAGES, Basis, Stage
from harness.records.record import Record, TaskResult
from harness.records.store import Store
from harness.run import due, runner
from harness.run.job import Job, Outcome, Say
from harness.run.progress import Progress, gist
from harness.run.runner import Summary, select
from tests.cells import MakeCell

TEXT = 'models = ["acme/tiny"]\n'
Execute = Callable[[Job], Outcome]


class Bench:
    """A runner whose cells are given, and whose workers are functions."""

    def __init__(self, folder: Path, planned: Sequence[Cell], patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.output = io.StringIO()
        self.behave: Execute = lambda job: Outcome(job.cell.record("ok", 0.1))
        patch.setattr(runner, "check", lambda suite: None)
        patch.setattr(runner, "start_server", lambda: None)
        patch.setattr(runner, "prepare_environment", lambda refs, root: None)
        self.plan = list(planned)
        self.due: frozenset[Stage] = frozenset()
        patch.setattr(runner, "cells", lambda suite, data_root, limit: list(self.plan))
        patch.setattr(runner, "run_cell", self._run_cell)
        patch.setattr(runner, "publish", lambda store: None)
        self.today: dict[str, Basis] = {}
        """Bases that are not those of the plan any more, by cell."""
        patch.setattr(runner, "Today", self._take)

    def _take(self, data_root: Path | None) -> Any:
        return SimpleNamespace(basis=lambda cell: self.today.get(cell.id, cell.basis))

    def _run_cell(self, job: Job, say: Say) -> Outcome:
        self.ran.append(job.cell.row)
        self.due = job.due
        job.artifact.mkdir()
        return self.behave(job)

    def run(self, only: str | None = None, **options: Any) -> Summary:
        self.ran.clear()
        suite = Suite.parse(TEXT, name="tiny", source="tiny.toml")
        return runner.run(
            suite,
            self.folder,
            only=only,
            **options,
            progress=Progress(Console(file=self.output, soft_wrap=True)),
        )

    @property
    def store(self) -> Store:
        return Store(self.folder / "tiny")


@pytest.fixture
def planned(make_cell: MakeCell) -> list[Cell]:
    return [make_cell(row, options={"keep": n}) for n, row in enumerate(("one", "two", "three"))]


@pytest.fixture
def bench(tmp_path: Path, planned: list[Cell], monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, planned, monkeypatch)


def test_finished_cells_are_not_run_again(bench: Bench, planned: list[Cell]) -> None:
    first = bench.run()
    assert bench.ran == ["one", "two", "three"]
    assert (first.cells, len(first.ran), first.failed) == (3, 3, [])
    before = bench.store.records()
    again = bench.run()
    assert bench.ran == []
    assert (again.cells, len(again.ran)) == (3, 0)
    assert bench.store.records() == before
    assert [cell.id for cell in bench.store.plan().cells] == [cell.id for cell in planned]
    assert (bench.store.folder / "suite.toml").read_text() == TEXT


def test_a_refusal_is_a_result_and_a_failure_is_not(bench: Bench, planned: list[Cell]) -> None:
    def behave(job: Job) -> Outcome:
        status = {"one": "ok", "two": "refused", "three": "failed"}[job.cell.row]
        return Outcome(job.cell.record(status, 0.1, reason="Because."))  # type: ignore[arg-type]

    bench.behave = behave
    summary = bench.run()
    assert [record.row for record in summary.failed] == ["three"]
    assert "1 refused; 1 failed and will run again: three (seed 0): Because." in summary.sentence()
    bench.behave = lambda job: Outcome(job.cell.record("ok", 0.2))
    assert bench.run().failed == []
    assert bench.ran == ["three"]
    replaced = bench.store.read(planned[2].id)
    assert replaced is not None
    assert (replaced.status, replaced.seconds) == ("ok", 0.2)


def test_ctrl_c_keeps_what_is_finished(bench: Bench) -> None:
    def interrupted(job: Job) -> Outcome:
        if job.cell.row == "two":
            raise KeyboardInterrupt
        return Outcome(job.cell.record("ok", 0.1))

    bench.behave = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert [record.row for record in bench.store.records()] == ["one"]
    assert not bench.store.work.exists()
    bench.behave = lambda job: Outcome(job.cell.record("ok", 0.1))
    bench.run()
    assert bench.ran == ["two", "three"]


def test_artifacts_go_unless_they_are_to_stay(bench: Bench, planned: list[Cell]) -> None:
    bench.run(only="one")
    assert not bench.store.artifacts.exists()
    bench.run(keep_artifacts=True)
    kept = {path.name for path in bench.store.artifacts.iterdir()}
    assert kept == {cell.id for cell in planned[1:]}
    assert not bench.store.work.exists()


def test_a_damaged_record_is_named_and_its_cell_runs_again(
    bench: Bench, planned: list[Cell]
) -> None:
    bench.run()
    path = bench.store.folder / "records" / f"{planned[1].id}.json"
    before = path.read_text()
    path.write_text("{")
    bench.run()
    assert bench.ran == ["two"]
    assert f"{path}: damaged" in bench.output.getvalue()
    assert len(path.read_text()) == len(before)


CHANGES = {
    "compress": {"compress", "evaluate", "measure"},
    "evaluate": {"evaluate"},
    "measure": {"measure"},
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["code", "data"])
def test_a_cell_of_other_code_or_data_runs_again_from_the_stage_that_reaches_it(
    bench: Bench, planned: list[Cell], stage: Stage, kind: str
) -> None:
    def with_names(digest: str) -> Basis:
        return Basis(**{kind: {stage: {"harness.model.view": digest, "other": "1" * 16}}})

    planned[1] = bench.plan[1] = planned[1].on(with_names("1" * 16))
    bench.run()
    bench.plan[1] = planned[1].on(with_names("2" * 16))
    assert bench.run(keep_older=True).kept == 1
    assert bench.ran == []
    assert [cell.older for cell in bench.store.plan().cells] == [
        "",
        f"{kind} of {stage}: harness.model.view",
        "",
    ]
    bench.run()
    assert bench.ran == ["two"]
    assert f"seed 0 again: {kind} of {stage}: harness.model.view" in bench.output.getvalue()
    assert bench.due == CHANGES[stage]
    assert [cell.older for cell in bench.store.plan().cells] == ["", "", ""]
    bench.run()
    assert bench.ran == []


def test_code_that_changes_while_a_cell_runs_makes_it_a_failure(
    bench: Bench, planned: list[Cell]
) -> None:
    other = Basis(code={"evaluate": {"harness.evaluate.scorer": "2" * 16}})

    def edit(job: Job) -> Outcome:
        if job.cell.row == "two":
            bench.today[job.cell.id] = bench.today[planned[2].id] = other
        return Outcome(job.cell.record("ok", 0.1))

    bench.behave = edit
    with pytest.raises(UserError, match=r"three .*: changed since .* code of evaluate"):
        bench.run()
    record = bench.store.read(planned[1].id)
    assert record is not None
    assert record.status == "failed"
    assert "While the cell ran, this changed: code of evaluate" in str(record.reason)


def test_a_record_without_a_basis_is_run_again(bench: Bench, planned: list[Cell]) -> None:
    bench.behave = lambda job: Outcome(job.cell.record("ok", 0.1, basis=None))
    bench.run(only="one")
    bench.behave = lambda job: Outcome(job.cell.record("ok", 0.1))
    bench.run(only="one")
    assert bench.ran == ["one"]


def test_other_versions_are_told_and_run_again_when_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = environment()
    bench.behave = lambda job: Outcome(job.cell.record("ok", 0.1, environment=here))
    bench.run()
    there = {**surroundings(), "transformers": "99.0"}
    monkeypatch.setattr(due, "surroundings", lambda: there)
    bench.run()
    assert bench.ran == []
    assert "3 cells" in bench.output.getvalue()
    assert f"transformers {here.versions['transformers']}, now 99.0" in bench.output.getvalue()
    bench.run(fresh_environment=True)
    assert bench.ran == ["one", "two", "three"]


def test_a_run_goes_on_from_packed_records(bench: Bench, planned: list[Cell]) -> None:
    bench.run(only="one")
    with bench.store.locked():
        archive(bench.store)
    bench.run()
    assert bench.ran == [cell.row for cell in planned if cell.row != "one"]
    assert len(bench.store.records()) == len(planned)


def test_only_runs_what_it_names_but_plans_all(bench: Bench) -> None:
    summary = bench.run(only="TWO")
    assert bench.ran == ["two"]
    assert summary.cells == 1
    assert len(bench.store.plan().cells) == 3


@pytest.mark.parametrize(
    ("only", "rows"),
    [
        ("t", ["two", "three"]),  # "acme/tiny" has one, but is no row
        ("two", ["two"]),
        ("t*e", ["three"]),
        ("tiny", ["one", "two", "three"]),
        ("acme/t*", ["one", "two", "three"]),
    ],
)
def test_patterns(planned: list[Cell], only: str, rows: list[str]) -> None:
    assert [cell.row for cell in select(planned, only)] == rows


def test_an_id_selects_its_cell(planned: list[Cell]) -> None:
    assert select(planned, planned[1].id[:8]) == [planned[1]]


def test_a_pattern_without_cells_names_the_rows(planned: list[Cell]) -> None:
    with pytest.raises(
        UserError, match=r"matches no cell. Did you mean 'three'\? Rows: one, two"
    ) as caught:
        select(planned, "threee")
    assert caught.value.argument == "only"


def test_each_cell_leaves_one_line(bench: Bench) -> None:
    bench.run()
    lines = bench.output.getvalue().splitlines()
    assert lines == [
        f"cell {n}/3  acme/tiny  {row}  seed 0  ok  0.1 s"
        for n, row in enumerate(("one", "two", "three"), start=1)
    ]


def test_a_line_has_the_numbers_there_are(make_cell: MakeCell) -> None:
    cell = make_cell()
    task = TaskResult(
        task="boolq",
        version="2",
        items=4,
        shots=0,
        metrics={"acc": 0.625},
        data="d",
        seconds=1.0,
    )
    output = io.StringIO()
    progress = Progress(Console(file=output, soft_wrap=True))
    record: Record = cell.record("ok", 12.34, tasks={"boolq": task})
    with progress.cell(1, 2, cell):
        progress.phase("evaluating tasks")
    progress.finished(record, cell.protocol)
    assert output.getvalue() == "cell 1/2  acme/tiny  eep 4  seed 0  ok  12.3 s  avg 62.5\n"


def test_the_gist_of_a_traceback_is_its_last_line() -> None:
    assert (
        gist("Traceback (most recent call last):\n  File x\nValueError: no\n") == "ValueError: no"
    )
    assert gist("One sentence.\nlog line") == "One sentence."
