"""The store: complete or absent, whatever happens; and readable sentences for what is damaged."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records.digest import sealed, unsealed
from harness.records.protocol import Protocol
from harness.records.reading import Damaged
from harness.records.record import Item
from harness.records.store import Plan, Store
from tests.cells import MakeCell


def test_a_record_comes_back_with_its_items(
    store: Store, make_cell: MakeCell, items: list[Item]
) -> None:
    record = store.write(make_cell().record("ok", 1.0), items)
    assert store.read(record.cell) == record
    assert record.items_sha256 is not None
    assert store.items(record.cell) == items
    assert store.records() == [record]


def test_a_cell_without_record_has_none(store: Store) -> None:
    assert store.read("0" * 16) is None
    assert store.items("0" * 16) == []


def test_equal_items_are_equal_files(store: Store, make_cell: MakeCell, items: list[Item]) -> None:
    record = make_cell().record("ok", 1.0)
    path = store.folder / "items" / f"{record.cell}.jsonl.gz"
    store.write(record, items)
    first = path.read_bytes()
    store.write(record, items)
    assert path.read_bytes() == first


def test_a_crash_before_the_rename_leaves_the_old_file(
    store: Store, make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_cell().record("failed", 1.0, reason="old"), make_cell().record("ok", 2.0)
    store.write(old)

    def crash(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", crash)
        store.write(new)
    assert store.read(old.cell) == old


def test_a_kill_before_the_rename_leaves_nothing_that_counts(
    store: Store, make_cell: MakeCell
) -> None:
    record = make_cell().record("ok", 1.0)
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "Path.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from harness.records.store import Store; from harness.records.record import Record\n"
        "Store(Path(sys.argv[1])).write(Record.model_validate_json(sys.stdin.read()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(store.folder)],
        input=record.model_dump_json(),
        text=True,
        check=False,
    )
    assert done.returncode == -9
    assert list((store.folder / "records").glob(".*.tmp"))
    assert store.records() == []
    with store.locked():
        assert not list(store.folder.rglob(".*.tmp"))
    store.write(record)
    assert store.records() == [record]


def test_the_record_comes_after_its_items(
    store: Store, make_cell: MakeCell, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    put = Store.put

    def watched(self: Store, path: Path, data: bytes) -> None:
        written.append(path.parent.name)
        put(self, path, data)

    monkeypatch.setattr(Store, "put", watched)
    store.write(make_cell().record("ok", 1.0), items)
    assert written == ["items", "records"]


@pytest.mark.parametrize("spoil", ["truncate", "empty", "bytes", "list", "no such field", "moved"])
def test_a_damaged_record_is_named_with_its_remedy(
    store: Store, make_cell: MakeCell, spoil: str
) -> None:
    record = make_cell().record("ok", 1.0)
    store.write(record)
    path = store.folder / "records" / f"{record.cell}.json"
    text = path.read_text()
    spoiled = {
        "truncate": text[: len(text) // 2],
        "empty": "",
        "bytes": "\x00\x01",
        "list": "[]",
        "no such field": text.replace('"seed"', '"sead"'),
        "moved": text.replace(record.cell, "0" * 16),
    }
    path.write_text(spoiled[spoil])
    with pytest.raises(Damaged) as caught:
        store.read(record.cell)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "The next 'moebench run' runs its cell again." in sentence
    assert "\n" not in sentence


def test_a_newer_record_says_so(store: Store, make_cell: MakeCell) -> None:
    record = make_cell().record("ok", 1.0)
    store.write(record)
    path = store.folder / "records" / f"{record.cell}.json"
    values, _ = unsealed(json.loads(path.read_text()))
    path.write_text(json.dumps(sealed({**values, "format": 99})))
    sentence = "has record format 99, and this moebench reads 2"
    with pytest.raises(UserError, match=sentence) as caught:
        store.read(record.cell)
    assert not isinstance(caught.value, Damaged)  # which would have it run again


def test_damaged_items_are_named(store: Store, make_cell: MakeCell, items: list[Item]) -> None:
    record = make_cell().record("ok", 1.0)
    store.write(record, items)
    path = store.folder / "items" / f"{record.cell}.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-12])
    for read in (store.items, store.check):
        with pytest.raises(Damaged, match="cannot be unpacked"):
            read(record.cell)
    path.unlink()
    with pytest.raises(Damaged, match=f"the items of cell {record.cell} are missing"):
        store.check(record.cell)


def test_items_of_another_record_are_damage(
    store: Store, make_cell: MakeCell, items: list[Item]
) -> None:
    first = store.write(make_cell().record("ok", 1.0), items)
    other = store.write(make_cell(seed=1).record("ok", 1.0), items[:1])
    path = store.folder / "items"
    (path / f"{other.cell}.jsonl.gz").replace(path / f"{first.cell}.jsonl.gz")
    with pytest.raises(Damaged, match="their digest is another"):
        store.items(first.cell)
    (store.folder / "records" / f"{first.cell}.json").unlink()
    with pytest.raises(Damaged, match=f"the record of the items of cell {first.cell} is missing"):
        store.items(first.cell)


def test_a_record_without_items_does_not_take_those_of_an_earlier_one(
    store: Store, make_cell: MakeCell, items: list[Item]
) -> None:
    store.write(make_cell().record("failed", 1.0, reason="late"), items)
    again = store.write(make_cell().record("failed", 1.0, reason="early"))
    assert store.items(again.cell) == []


def test_a_changed_plan_is_named(store: Store, make_cell: MakeCell) -> None:
    cells = (make_cell().planned(),)
    store.begin(Plan(suite="tiny", title="T", protocol=Protocol(), cells=cells), "")
    path = store.folder / "cells.json"
    path.write_text(path.read_text().replace('"row": "eep 4"', '"row": "eep 5"'))
    with pytest.raises(UserError, match="it is not what was written"):
        store.plan()


def test_one_run_at_a_time(store: Store) -> None:
    sentence = f"process {os.getpid()} is running"
    with store.locked(), pytest.raises(UserError, match=sentence), Store(store.folder).locked():
        pass
    with store.locked():
        pass


def test_the_lock_falls_with_its_process(store: Store) -> None:
    script = (
        "import os, sys; from pathlib import Path; from harness.records.store import Store\n"
        "Store(Path(sys.argv[1])).locked().__enter__(); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(store.folder)], check=False)
    with store.locked():
        assert (store.folder / ".lock").read_text() == str(os.getpid())


def test_a_run_clears_away_what_a_dead_one_left(store: Store) -> None:
    store.work.mkdir(parents=True)
    (store.work / "artifact").write_text("half")
    with store.locked():
        assert not store.work.exists()


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    store: Store, make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_cell().record("failed", 1.0, reason="old")
    store.write(old)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(UserError, match="no space left") as caught:
        patch.setattr(os, "fsync", full)
        store.write(make_cell().record("ok", 2.0))
    assert "start the same command again" in str(caught.value)
    assert store.read(old.cell) == old
    assert not list(store.folder.rglob(".*.tmp"))


def test_the_plan_comes_back(store: Store, make_cell: MakeCell) -> None:
    plan = Plan(suite="tiny", title="T", protocol=Protocol(limit=3), cells=(make_cell().planned(),))
    store.begin(plan, "models = []")
    assert store.plan().cells == plan.cells
    assert store.suite_text() == "models = []"
    store.suite_path.write_text("models = [1]")
    with pytest.raises(UserError, match=r"suite\.toml: damaged .* Run the suite again"):
        store.suite_text()


def test_planned_records_carry_the_rows_present_names(store: Store, make_cell: MakeCell) -> None:
    first, second, old = make_cell("one"), make_cell("two", seed=1), make_cell("old", seed=2)
    for cell in (old, second, first):
        store.write(cell.record("ok", 1.0))
    renamed = second.planned().model_copy(update={"row": "three"})
    missing = make_cell("missing", seed=3).planned()
    cells = (first.planned(), missing, renamed)
    store.begin(Plan(suite="tiny", title="T", protocol=Protocol(), cells=cells), "")
    assert [(record.cell, record.row) for record in store.planned()] == [
        (first.id, "one"),
        (second.id, "three"),
    ]
    assert len(store.records()) == 3


def test_a_folder_without_results_says_what_to_do(store: Store) -> None:
    with pytest.raises(UserError, match=r"no results here\. Run 'moebench run' first"):
        store.plan()
