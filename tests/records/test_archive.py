"""A results folder archived: read as a loose one, written over it, damage in words."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records.archive import compressed_items, compressed_records
from harness.records.record import Item
from harness.records.store import Store
from tests.cells import MakeCell

Files = dict[str, bytes]


def files(store: Store) -> Files:
    paths = (path for path in store.folder.rglob("*") if path.is_file())
    return {str(path.relative_to(store.folder)): path.read_bytes() for path in paths}


@pytest.fixture
def full(store: Store, make_cell: MakeCell, items: list[Item]) -> Store:
    """Three loose records; the second has fewer items, the third none."""
    for seed, outcomes in enumerate((items, items[:1], [])):
        store.write(make_cell(seed=seed).record("ok", 1.0), outcomes)
    return store


def test_packed_is_read_as_loose(full: Store) -> None:
    records = full.records()
    outcomes = {record.cell: full.items(record.cell) for record in records}
    assert full.archive() == 3
    assert set(files(full)) == {"records.jsonl.gz", "items.jsonl.gz"}
    for store in (full, Store(full.folder)):
        assert store.records() == records
        assert store.cells() == [record.cell for record in records]
        assert {record.cell: store.read(record.cell) for record in records} == {
            record.cell: record for record in records
        }
        assert {record.cell: store.items(record.cell) for record in records} == outcomes
        assert store.read("0" * 16) is None
        assert store.items("0" * 16) == []


def test_equal_contents_are_equal_bytes(
    full: Store, make_cell: MakeCell, items: list[Item]
) -> None:
    records = full.records()
    assert compressed_records(records) == compressed_records(records[::-1])
    outcomes = {"b": items, "a": items[:1]}
    assert compressed_items(outcomes) == compressed_items(dict(reversed(outcomes.items())))
    full.archive()
    first = files(full)
    Store(full.folder).archive()
    assert files(full) == first


def test_a_loose_record_counts_before_the_packed_one(
    full: Store, make_cell: MakeCell, items: list[Item]
) -> None:
    full.archive()
    failed = make_cell(seed=0).record("failed", 2.0, reason="again")
    new = make_cell(seed=9).record("ok", 3.0)
    full.write(failed)
    full.write(new, items)
    store = Store(full.folder)
    assert store.read(failed.cell) == failed
    assert store.items(failed.cell) == []
    assert store.items(new.cell) == items
    assert len(store.records()) == 4
    assert failed in store.records()
    store.archive()
    assert failed in store.records()
    assert (store.items(failed.cell), store.items(new.cell)) == ([], items)


def test_items_whose_record_never_came_do_not_count(
    full: Store, make_cell: MakeCell, items: list[Item]
) -> None:
    cell = make_cell(seed=1).id
    full.archive()
    full.put(full.folder / "items" / f"{cell}.jsonl.gz", gzip.compress(b"{"))
    assert Store(full.folder).items(cell) == items[:1]


def test_packing_without_items_leaves_no_file_of_items(store: Store, make_cell: MakeCell) -> None:
    store.write(make_cell().record("ok", 1.0))
    store.archive()
    assert set(files(store)) == {"records.jsonl.gz"}


def test_nothing_is_lost_when_packing_is_cut_short(
    full: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = full.records()

    def crash(self: Path, target: Path) -> Path:
        if target.name == "records.jsonl.gz":
            raise KeyboardInterrupt
        return self.rename(target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", crash)
        full.archive()
    assert Store(full.folder).records() == records
    full.archive()
    assert Store(full.folder).records() == records


def test_an_empty_folder_has_nothing_to_pack(store: Store) -> None:
    with pytest.raises(UserError, match=r"no records to archive\. Run 'moebench run' first"):
        store.archive()


def rewrite(path: Path, lines: Sequence[bytes]) -> None:
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0))


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


SPOILED_BYTES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[: len(data) // 2],
    "without its checksum": lambda data: data[:-8],
    "another checksum": lambda data: data[:-8] + b"\0" * 8,
    "a byte that is another": flipped,
    "no gzip": lambda data: gzip.decompress(data),
    "something behind it": lambda data: data + b"x",
    "nothing": lambda data: b"",
    "an empty text": lambda data: gzip.compress(b""),
}


@pytest.mark.parametrize("name", ["records.jsonl.gz", "items.jsonl.gz"])
@pytest.mark.parametrize("spoil", SPOILED_BYTES)
def test_a_damaged_file_is_one_sentence(full: Store, name: str, spoil: str) -> None:
    cell = full.cells()[0]
    full.archive()
    path = full.folder / name
    path.write_bytes(SPOILED_BYTES[spoil](path.read_bytes()))
    check_sentence(full.folder, cell, str(path))


SPOILED_LINES = {
    "no JSON": b"{",
    "no UTF-8": b'{"cell": "\xff"}',
    "nested without end": b"[" * 100_000,
    "a list": b"[]",
    "null": b"null",
    "a blank line": b"",
    "other fields": b'{"format": 1, "cell": "x", "outcome": {}}',
    "a format that is no number": b'{"format": "one"}',
}


@pytest.mark.parametrize("name", ["records.jsonl.gz", "items.jsonl.gz"])
@pytest.mark.parametrize("spoil", SPOILED_LINES)
def test_a_damaged_line_is_one_sentence_with_its_number(full: Store, name: str, spoil: str) -> None:
    cell = full.cells()[0]
    full.archive()
    path = full.folder / name
    lines = gzip.decompress(path.read_bytes()).splitlines()
    rewrite(path, [*lines, SPOILED_LINES[spoil]])
    check_sentence(full.folder, cell, f"{path}:{len(lines) + 1}: damaged")


def check_sentence(folder: Path, cell: str, begin: str) -> None:
    with pytest.raises(UserError) as caught:
        Store(folder).items(cell)
    sentence = str(caught.value)
    assert sentence.startswith(begin)
    assert "Fetch it again, or delete it to have its cells run again." in sentence
    assert "\n" not in sentence
    for word in ("pydantic", "validation", "Record", "Errno", "CRC", "zlib", "utf-8"):
        assert word not in sentence.replace(str(folder), "")


def test_a_folder_in_place_of_the_file_is_one_sentence(full: Store) -> None:
    (full.folder / "records.jsonl.gz").mkdir()
    with pytest.raises(UserError, match="damaged"):
        full.records()


def test_a_cell_that_stands_there_twice_is_damage(full: Store) -> None:
    cell = full.cells()[0]
    full.archive()
    path = full.folder / "records.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    rewrite(path, [*lines, lines[0]])
    check_sentence(full.folder, cell, f"{path}:4: damaged (cell {cell} stands there twice)")


def test_a_newer_record_says_so(full: Store) -> None:
    full.archive()
    path = full.folder / "records.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    rewrite(path, [json.dumps({**json.loads(lines[0]), "format": 99}).encode()])
    with pytest.raises(UserError, match="has record format 99, and this moebench reads 1"):
        Store(full.folder).records()
