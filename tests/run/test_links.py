"""Links planted in a results folder: nothing outside is written, moved or deleted through one."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import UserError
from harness.plan.cell import Cell
from harness.plan.suite import Suite
from harness.records.archive import compressed_records
from harness.records.record import Item
from harness.records.store import Store
from harness.run import runner
from harness.run.job import Job, Outcome, Say
from harness.run.progress import Progress
from tests.cells import MakeCell

SECRET = b"mine"


@pytest.fixture
def planned(make_cell: MakeCell) -> list[Cell]:
    return [make_cell(row, options={"keep": n}) for n, row in enumerate(("one", "two"))]


@pytest.fixture(autouse=True)
def _functions(planned: Sequence[Cell], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cells that are given, and a worker that is a function; all else of a run is real."""

    def work(job: Job, say: Say) -> Outcome:
        job.artifact.mkdir()
        (job.artifact / "model.safetensors").write_bytes(b"weights")
        job.log.write_text("log")
        item = Item(task="boolq", item="i", prompt="p", metrics={"acc": 1.0})
        return Outcome(job.cell.record("ok", 0.1), (item,))

    for name, replacement in {
        "_checked_cells": lambda *_: list(planned),
        "run_cell": work,
        "Today": lambda root: SimpleNamespace(basis=lambda cell: cell.basis),
    }.items():
        monkeypatch.setattr(runner, name, replacement)
    monkeypatch.setenv("MOEBENCH_CACHE", str(tmp_path / "cache"))


class Outside:
    """A folder with a file of somebody's, to which links lead."""

    def __init__(self, folder: Path, names: Sequence[str] = ()) -> None:
        self.folder = folder
        self.names = ("secret", *names)
        for name in self.names:
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(SECRET)

    def untouched(self) -> bool:
        files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        return files == dict.fromkeys(self.names, SECRET)


def run(place: Path) -> None:
    suite = Suite.parse('models = ["acme/tiny"]\n', name="tiny", source="tiny.toml")
    quiet = Progress(Console(quiet=True))
    runner.run(suite, place / "results", keep_artifacts=True, progress=quiet)


def verb(place: Path, *arguments: str) -> int:
    told = CliRunner().invoke(app, [*arguments, "--results", str(place / "results")])
    assert not told.exception or isinstance(told.exception, SystemExit), told.output
    return told.exit_code


def whole(place: Path) -> set[str]:
    """Run, print, draw and archive; return all files that there were on the way."""
    run(place)
    for form in ("md", "csv", "tex", "terminal"):
        out = str(place / f"table.{form}")
        assert verb(place, "leaderboard", "tiny", "--format", form, "--out", out) == 0
    assert verb(place, "plot", "tiny", "--out", str(place / "figures")) == 0
    files = written(place)
    assert verb(place, "archive", "tiny") == 0
    return files | written(place)


def written(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def test_a_file_that_is_a_link_is_replaced_by_one(tmp_path: Path) -> None:
    files = whole(tmp_path / "clean")
    assert len(files) > 15
    named = {name for name in files if name.startswith("table")}  # by the user, who may name links
    outside = Outside(tmp_path / "outside")
    linked = tmp_path / "linked"
    for name in files - named - {"results/tiny/.lock"}:
        (linked / name).parent.mkdir(parents=True, exist_ok=True)
        (linked / name).symlink_to(outside.folder / "secret")
    assert whole(linked) == files
    assert outside.untouched()
    assert not [path for path in linked.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("name", ["", "records", "items", "artifacts"])
def test_a_folder_that_is_a_link_is_refused_by_its_name(
    name: str, tmp_path: Path, planned: list[Cell]
) -> None:
    ids = [f"{cell.id}{end}" for cell in planned for end in ("", ".json", ".jsonl.gz")]
    outside = Outside(tmp_path / "outside", [*ids, "cells.json", "old.tmp", ".old.tmp"])
    link = tmp_path / "results" / "tiny" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside.folder)
    with pytest.raises(UserError, match=f"{link} is a symbolic link, and nothing is written"):
        run(tmp_path)
    assert verb(tmp_path, "archive", "tiny") == verb(tmp_path, "plot", "tiny") == 2
    assert outside.untouched()


def test_work_that_is_a_link_makes_room_for_a_folder(tmp_path: Path, planned: list[Cell]) -> None:
    outside = Outside(tmp_path / "outside", [cell.id for cell in planned])
    link = tmp_path / "results" / "tiny" / ".work"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside.folder)
    kept = link.parent / "artifacts" / planned[0].id
    kept.parent.mkdir()
    kept.symlink_to(outside.folder)
    run(tmp_path)
    assert outside.untouched()
    assert not link.exists()
    assert not kept.is_symlink()


def test_the_folder_of_all_results_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    run(tmp_path)
    assert (tmp_path / "disk" / "tiny" / "leaderboard.md").is_file()


@pytest.mark.parametrize("kind", ["link", "dangling link", "other name", "pipe", "folder"])
def test_a_lock_that_is_no_file_of_its_own_is_refused(kind: str, tmp_path: Path) -> None:
    outside = Outside(tmp_path / "outside")
    lock = tmp_path / "results" / "tiny" / ".lock"
    lock.parent.mkdir(parents=True)
    match kind:
        case "link":
            lock.symlink_to(outside.folder / "secret")
        case "dangling link":
            lock.symlink_to(outside.folder / "new")
        case "other name":
            lock.hardlink_to(outside.folder / "secret")
        case "pipe":
            os.mkfifo(lock)
        case _:
            lock.mkdir()
    with pytest.raises(UserError, match=r"tiny: cannot be written: .*(delete it|directory)"):
        run(tmp_path)
    assert outside.untouched()


def test_a_table_goes_where_the_user_says(tmp_path: Path) -> None:
    run(tmp_path)
    aim, link = tmp_path / "aim.md", tmp_path / "link.md"
    link.symlink_to(aim)
    arguments = ["leaderboard", "tiny", "--format", "md", "--out"]
    assert verb(tmp_path, *arguments, str(link)) == 0
    assert link.is_symlink()
    assert aim.read_text().startswith("tiny: protocol")
    assert verb(tmp_path, *arguments, "/dev/null") == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    "name", ["../../../outside/x", "/outside/x", "..", "", "a/b", "a\0b", "x" * 999]
)
def test_a_cell_whose_name_leads_out_of_the_folder_is_damaged(
    name: str, tmp_path: Path, planned: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "publish", lambda store: None)
    outside = Outside(tmp_path / "outside", ["x.json", "x.jsonl.gz"])
    run(tmp_path)
    store = Store(tmp_path / "results" / "tiny")
    record = planned[0].record("ok", 0.1).model_copy(update={"cell": name})
    archived = store.archived.records_path
    store.put(archived, compressed_records([record]))
    store = Store(store.folder)
    assert [error for error in store.damage() if "no file can be called like that" in str(error)]
    assert verb(tmp_path, "archive", "tiny") == 0
    assert outside.untouched()
    plan = json.loads((store.folder / "cells.json").read_text())
    plan["cells"][0]["id"] = name
    del plan["sha256"]
    (store.folder / "cells.json").write_text(json.dumps(plan))
    with pytest.raises(UserError, match="no file can be called like that"):
        store.plan()
