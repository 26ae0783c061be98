"""A full disk at each kind of write: a sentence and nothing lost, or a warning where it is a cache.

The disk is a real one of a few megabytes where one can be mounted; elsewhere these are skipped, and
the rooms' own tests, in which the system's calls fail, have to do.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from harness.cache import keeping, sealed
from harness.cli.options import put_out
from harness.disk import scratch
from harness.errors import UserError
from harness.export.writing import export
from harness.model.edits import SetWeights
from harness.model.files import artifact as artifacts
from harness.model.files.opening import open_model
from harness.plan.cell import Cell
from harness.records.record import Item
from harness.records.store import Plan, Store
from harness.report.publish import publish
from harness.run import server
from harness.run.job import Job
from harness.run.process import run_cell
from tests.cells import MakeCell

SIZE = 4 * 2**20
SUITE = 'models = ["acme/tiny"]\n'
ROOM = 8 * 2**10
"""Bytes that are left: enough for a folder, not for what is written."""


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@dataclass
class Disk:
    """A small disk, with a results folder in which a cell has failed."""

    folder: Path
    cell: Cell
    items: list[Item]
    model: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / "results" / "tiny")

    @property
    def plan(self) -> Plan:
        return Plan(
            suite="tiny", title="T", protocol=self.cell.protocol, cells=(self.cell.planned(),)
        )

    def fill(self) -> None:
        """Leave little room."""
        with contextlib.suppress(OSError), (self.folder / "filler").open("wb") as file:
            while True:
                file.write(bytes(2**12))
                file.flush()
        with (self.folder / "filler").open("r+b") as file:
            file.truncate((self.folder / "filler").stat().st_size - ROOM)

    def free(self) -> None:
        (self.folder / "filler").unlink()

    def names(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


@pytest.fixture
def disk(
    mounted: Path, make_cell: MakeCell, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Disk]:
    monkeypatch.setattr(keeping, "_warned", False)
    monkeypatch.setattr(server, "_server", None)
    monkeypatch.setattr(server, "PRELOAD", ())
    many = [
        Item(
            task="boolq",
            item=f"{n:064x}",
            prompt=sha256(b"%d" % n).hexdigest(),
            metrics={"acc": n % 2},
        )
        for n in range(500)
    ]
    disk = Disk(mounted, make_cell(), many, checkpoint)
    disk.store.write(disk.cell.record("failed", 1.0, reason="old"))
    disk.store.begin(disk.plan, SUITE)
    yield disk
    subprocess.run(["find", str(mounted), "-mindepth", "1", "-delete"], check=True)


def a_record(disk: Disk) -> None:
    disk.store.write(disk.cell.record("failed", 2.0, reason="new " * ROOM))


def items(disk: Disk) -> None:
    disk.store.write(disk.cell.record("ok", 2.0), disk.items)


def a_plan(disk: Disk) -> None:
    disk.store.begin(disk.plan, "# long\n" * ROOM)


def a_table(disk: Disk) -> None:
    put_out("x" * 2 * ROOM, disk.folder / "table.md")


def figures_and_tables(disk: Disk) -> None:
    publish(disk.store)


def an_artifact(disk: Disk) -> None:
    artifacts.save(open_model(str(disk.model)), disk.folder / "small")


def a_streamed_artifact(disk: Disk) -> None:
    artifacts.save(open_model(str(disk.model), streaming=True), disk.folder / "small")


def an_export(disk: Disk) -> None:
    export(open_model(str(disk.model)), disk.folder / "plain", "hf")


def scratch_files(disk: Disk) -> None:
    model = open_model(str(disk.model), streaming=True)
    for block in (*model.blocks, *model.blocks):
        weights = {m.name: block.weight(m) * 2 for m in block.matrices("experts")}
        model.apply(SetWeights.of(block.index, weights))
        model.layer(block.index)  # puts it on the shelf, from which it falls into a file
    artifacts.save(model, disk.folder.parent / "elsewhere")


WRITES: list[Callable[[Disk], None]] = [
    *(a_record, items, a_plan, a_table, an_artifact, a_streamed_artifact, an_export),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_full_disk_is_a_sentence_and_nothing_is_lost(
    write: Callable[[Disk], None], disk: Disk
) -> None:
    disk.fill()
    before, plan = {name for name in disk.names() if "items" not in name}, disk.store.plan()
    with pytest.raises(UserError, match=r"(?i)no space left on") as caught:
        write(disk)
    assert "\n" not in str(caught.value)
    kept = disk.store.read(disk.cell.id)
    assert kept is not None
    assert kept.reason == "old"
    assert disk.store.plan() == plan
    assert {name for name in disk.names() if "items" not in name} - before <= {"more", "table.md"}
    disk.free()
    (disk.folder / "more").unlink(missing_ok=True)
    write(disk)


def test_a_full_disk_under_tables_and_figures(disk: Disk) -> None:
    disk.store.write(disk.cell.record("ok", 2.0))
    disk.fill()
    (disk.folder / "more").write_bytes(bytes(ROOM))
    with pytest.raises(UserError, match="no space left on"):
        publish(disk.store)
    disk.free()
    publish(disk.store)
    assert (disk.store.folder / "leaderboard.md").read_text()


def test_a_full_disk_under_scratch_files(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk.folder))
    disk.fill()
    with pytest.raises(UserError, match=r"(?i)no space left on .*set TMPDIR to"):
        scratch_files(disk)
    (disk.folder / "more").write_bytes(bytes(ROOM))
    with contextlib.suppress(UserError):  # a folder may still find room
        scratch.delete(scratch.new())
    disk.free()


def test_a_full_disk_under_the_cache_is_a_warning(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.fill()
    place = disk.folder / "cache" / "hashes" / "x"
    for _ in range(2):
        sealed.write(place, "x" * 2 * ROOM)
    [warning] = [record.getMessage() for record in caplog.records]
    assert "cannot be written (No space left on device); results stay right" in warning
    assert not place.exists()
    disk.free()
    sealed.write(place, "x" * 2 * ROOM)
    assert sealed.read(place) == "x" * 2 * ROOM


def test_a_full_disk_under_a_log_is_a_sentence(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first cell of a run can meet it there: folder and log need hardly any room."""
    disk.fill()
    blocked = tmp_path / "blocked"
    blocked.touch()
    with pytest.raises(UserError, match=r"log\.txt: cannot be written: Not a directory"):
        run_cell(Job(disk.cell, None, blocked / "cell", disk.folder / "cache"))
