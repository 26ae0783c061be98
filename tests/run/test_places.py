"""Results folders that cannot be written, or in which something stands in a result's place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import UserError
from harness.plan.cell import Cell
from harness.records.record import Item
from harness.records.store import Store
from harness.run import runner
from harness.run.job import Outcome
from tests.cells import MakeCell
from tests.disks import make_read_only
from tests.run.test_runner import Bench


@pytest.fixture
def planned(make_cell: MakeCell) -> list[Cell]:
    return [make_cell(row, options={"keep": n}) for n, row in enumerate(("one", "two"))]


@pytest.fixture
def bench(
    tmp_path: Path, planned: list[Cell], items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> Bench:
    monkeypatch.setenv("MOEBENCH_CACHE", str(tmp_path / "cache"))
    bench = Bench(tmp_path / "results", planned, monkeypatch)
    bench.behave = lambda job: Outcome(job.cell.record("ok", 0.1), tuple(items))
    return bench


def told(bench: Bench) -> str:
    return bench.output.getvalue()


def test_a_finished_run_in_a_read_only_folder_shows_its_board(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run()
    make_read_only(bench.folder, monkeypatch)
    summary = bench.run()
    assert (bench.ran, summary.cells, summary.ran) == ([], 2, [])
    assert summary.board is not None
    assert [row.name for row in summary.board.rows] == ["one", "two"]
    assert "tiny: cannot be written (Read-only file system); tables and plots stay" in told(bench)


def test_an_unfinished_one_is_a_sentence_before_anything_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run(only="one")
    make_read_only(bench.folder, monkeypatch)
    with pytest.raises(UserError, match=r"cannot be written \(Read-only .* 1 of 2 cells are still"):
        bench.run()
    assert bench.ran == []


@pytest.mark.parametrize("archived", [False, True])
def test_every_verb_that_reads_reads_a_read_only_folder(
    archived: bool, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache cannot be written either; results come out all the same."""
    bench.run()
    cell = bench.plan[0].id
    if archived:
        put_away = ["archive", "tiny", "--results", str(bench.folder)]
        assert CliRunner().invoke(app, put_away).exit_code == 0
    make_read_only(bench.folder, monkeypatch)
    make_read_only(tmp_path / "cache", monkeypatch)
    where = ("--results", str(bench.folder))
    for verb in (
        ("leaderboard", "tiny", *where),
        ("gate", "tiny", "--baseline", str(bench.folder / "tiny"), *where),
        ("show", cell, *where),
        ("plot", "tiny", "--out", str(tmp_path / "figures"), *where),
    ):
        result = CliRunner().invoke(app, list(verb))
        assert result.exit_code == 0, (verb, result.stderr)
    for verb in (("archive", "tiny", *where), ("plot", "tiny", *where)):
        result = CliRunner().invoke(app, list(verb))
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), (verb, result.stderr)
        assert "Read-only file system" in result.stderr


Obstacle = Callable[[Store, str], Path]


def a_folder_for_a_record(store: Store, cell: str) -> Path:
    return store.loose.record_path(cell) / "inner"


def a_folder_for_items(store: Store, cell: str) -> Path:
    return store.loose.items_path(cell) / "inner"


@pytest.mark.parametrize("obstacle", [a_folder_for_a_record, a_folder_for_items])
def test_a_folder_in_a_results_place_is_said_before_anything_runs(
    obstacle: Obstacle, bench: Bench
) -> None:
    path = obstacle(bench.store, bench.plan[1].id)
    path.mkdir(parents=True)
    with pytest.raises(UserError, match=f"{path.parent}: is a folder, where a file of results"):
        bench.run()
    assert bench.ran == []
    path.rmdir()
    path.parent.rmdir()
    bench.run()
    assert bench.ran == ["one", "two"]


def test_a_file_in_a_folders_place_is_said_before_anything_runs(bench: Bench) -> None:
    bench.store.folder.mkdir(parents=True)
    (bench.store.folder / "items").touch()
    with pytest.raises(UserError, match="items: is a file, where a folder of results belongs"):
        bench.run()
    assert bench.ran == []


def test_an_artifact_that_was_kept_before_is_replaced_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run(keep_artifacts=True)
    [kept, _] = sorted(bench.store.artifacts.iterdir())
    (kept / "old").touch()
    runner._keep(_artifact(bench.folder / "new"), kept)
    assert [path.name for path in kept.iterdir()] == ["new"]
    assert len(list(bench.store.artifacts.iterdir())) == 2


def _artifact(folder: Path) -> Path:
    folder.mkdir()
    (folder / "new").touch()
    return folder
