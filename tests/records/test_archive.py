"""A results folder archived: read as a loose one, written over it, damage in words."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records.archive import compressed_items, compressed_records
from harness.records.archiving import archive
from harness.records.digest import sealed, unsealed
from harness.records.items import lines_of
from harness.records.reading import Damaged
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
    assert archive(full) == 3
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
    outcomes = {"b": lines_of(items), "a": lines_of(items[:1])}
    assert compressed_items(outcomes) == compressed_items(dict(reversed(outcomes.items())))
    archive(full)
    first = files(full)
    archive(Store(full.folder))
    assert files(full) == first


def test_a_loose_record_counts_before_the_packed_one(
    full: Store, make_cell: MakeCell, items: list[Item]
) -> None:
    archive(full)
    failed = full.write(make_cell(seed=0).record("failed", 2.0, reason="again"))
    new = full.write(make_cell(seed=9).record("ok", 3.0), items)
    store = Store(full.folder)
    assert store.read(failed.cell) == failed
    assert store.items(failed.cell) == []
    assert store.items(new.cell) == items
    assert len(store.records()) == 4
    assert failed in store.records()
    archive(store)
    assert failed in store.records()
    assert (store.items(failed.cell), store.items(new.cell)) == ([], items)


def test_items_whose_record_never_came_do_not_count(
    full: Store, make_cell: MakeCell, items: list[Item]
) -> None:
    cell = make_cell(seed=1).id
    archive(full)
    full.put(full.folder / "items" / f"{cell}.jsonl.gz", gzip.compress(b"{"))
    assert Store(full.folder).items(cell) == items[:1]


def test_packing_without_items_leaves_no_file_of_items(store: Store, make_cell: MakeCell) -> None:
    store.write(make_cell().record("ok", 1.0))
    archive(store)
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
        archive(full)
    assert Store(full.folder).records() == records
    archive(full)
    assert Store(full.folder).records() == records


def test_an_empty_folder_has_nothing_to_pack(store: Store) -> None:
    with pytest.raises(UserError, match=r"no records to archive\. Run 'moebench run' first"):
        archive(store)


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
    cell = next(record.cell for record in full.records() if record.items_sha256)
    archive(full)
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
def test_a_damaged_line_is_named_and_costs_its_cell_alone(
    full: Store, name: str, spoil: str
) -> None:
    whole = full.records()
    cell = next(record.cell for record in whole if record.items_sha256)
    outcomes = {record.cell: full.items(record.cell) for record in whole}
    archive(full)
    path = full.folder / name
    lines = gzip.decompress(path.read_bytes()).splitlines()
    number = next(n for n, line in enumerate(lines) if cell.encode() in line)
    rewrite(path, [*lines[:number], SPOILED_LINES[spoil], *lines[number + 1 :]])
    store = Store(full.folder)
    if name == "items.jsonl.gz":
        check_sentence(full.folder, cell, f"{path}:{number + 1}: damaged")
    else:
        assert store.read(cell) is None  # the line tells no cell, so the cell runs again
        [error] = store.damage()
        check_words(str(error), full.folder, f"{path}:{number + 1}: damaged")
    for other in (record for record in whole if record.cell != cell):
        assert store.read(other.cell) == other
        assert store.items(other.cell) == outcomes[other.cell]


def check_sentence(folder: Path, cell: str, begin: str) -> None:
    with pytest.raises(Damaged) as caught:
        Store(folder).items(cell)
    check_words(str(caught.value), folder, begin)


def check_words(sentence: str, folder: Path, begin: str) -> None:
    assert sentence.startswith(begin)
    assert "Fetch it again, or let the next 'moebench run' run its cells again." in sentence
    assert "\n" not in sentence
    for word in ("pydantic", "validation", "Record", "Errno", "CRC", "zlib", "utf-8"):
        assert word not in sentence.replace(str(folder), "")


def test_a_folder_in_place_of_the_file_is_one_sentence(full: Store) -> None:
    (full.folder / "records.jsonl.gz").mkdir()
    with pytest.raises(Damaged, match="damaged"):
        full.read("0" * 16)
    assert len(full.records()) == 3  # those of loose files


def test_a_cell_that_stands_there_twice_is_damage(full: Store) -> None:
    first, *others = full.records()
    archive(full)
    path = full.folder / "records.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    rewrite(path, [*lines, lines[0], lines[0]])
    begin = f"{path}:4: damaged (cell {first.cell} stands there twice)"
    check_sentence(full.folder, first.cell, begin)
    assert [Store(full.folder).read(record.cell) for record in others] == others


def test_a_cell_that_ran_again_takes_the_place_of_its_damaged_line(
    full: Store, make_cell: MakeCell, items: list[Item]
) -> None:
    cell = make_cell(seed=1)
    archive(full)
    path = full.folder / "records.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    rewrite(path, [line.replace(b'"seed":1', b'"seed":2') for line in lines])
    store = Store(full.folder)
    with pytest.raises(Damaged, match=r"gz:\d: damaged .it is not what was written"):
        store.read(cell.id)
    with pytest.raises(Damaged):
        archive(store)
    again = store.write(cell.record("ok", 5.0), items)
    assert archive(store) == 3
    assert (store.read(cell.id), store.items(cell.id)) == (again, items)
    assert len(store.records()) == 3


def test_items_and_records_of_two_archives_do_not_pass_for_one(
    full: Store, make_cell: MakeCell, items: list[Item], tmp_path: Path
) -> None:
    archive(full)
    other = Store(tmp_path / "other")
    changed = items[0].model_copy(update={"loglikelihoods": [-9.0, -1.0]})
    for seed in (0, 1):
        other.write(make_cell(seed=seed).record("ok", 1.0), [changed, *items[1:]])
    other.write(make_cell(seed=5).record("ok", 1.0), items)
    archive(other)
    full.archived.items_path.write_bytes(other.archived.items_path.read_bytes())
    for cell in (make_cell(seed=0).id, make_cell(seed=1).id):
        check_sentence(full.folder, cell, f"{full.archived.items_path}: damaged (the items of cell")
    assert Store(full.folder).items(make_cell(seed=2).id) == []
    with pytest.raises(Damaged, match="the record of the items of cell"):
        Store(full.folder).items(make_cell(seed=5).id)


def test_records_fetched_without_items_are_whole_until_items_are_asked_for(full: Store) -> None:
    with_items, *_ = [record for record in full.records() if record.items_sha256]
    archive(full)
    full.archived.items_path.unlink()
    store = Store(full.folder)
    assert store.check(with_items.cell) == with_items
    with pytest.raises(UserError, match=r"missing, and with it .*Fetch it") as caught:
        store.items(with_items.cell)
    assert not isinstance(caught.value, Damaged)


def test_a_newer_record_says_so_and_the_others_can_be_read(full: Store) -> None:
    archive(full)
    path = full.folder / "records.jsonl.gz"
    first, *others = gzip.decompress(path.read_bytes()).splitlines()
    values, _ = unsealed(json.loads(first))
    rewrite(path, [json.dumps(sealed({**values, "format": 99})).encode(), *others])
    store, kept = Store(full.folder), path.read_bytes()
    assert len(store.cells()) == 1 + len(others)
    for cell in store.cells():
        if cell != values["cell"]:
            assert store.check(cell) is not None
    for refused in (lambda: store.read(values["cell"]), store.records, lambda: archive(store)):
        with pytest.raises(UserError, match="has record format 99, and this moebench reads 2"):
            refused()
    assert path.read_bytes() == kept
