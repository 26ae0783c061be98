"""Results spoiled in many places: each is named, or nothing that is shown has changed."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.errors import UserError
from harness.records.archiving import archive
from harness.records.basis import Basis
from harness.records.protocol import Protocol
from harness.records.reading import Damaged
from harness.records.record import FORMAT
from harness.records.rows import entries
from harness.records.standing import standing
from harness.records.store import Store
from tests.records.made_up import items, record, store

FROZEN = Protocol(tasks=("boolq",), average=("boolq",), perplexity=("wikitext2",))
PLACES = 97
"""Number of places at which a file is spoiled: a prime, so that no field is stepped over."""


class Shown(NamedTuple):
    """All that is shown of a results folder, and what is said of its damage."""

    numbers: str
    said: tuple[str, ...]


def shown(folder: Path) -> Shown:
    results = Store(folder)
    try:
        run = standing(results)
    except UserError as error:
        return Shown("", (str(error),))
    said = run.gaps()
    rows = entries(run.records, run.plan.protocol)
    outcomes = []
    for made in run.records:
        try:
            outcomes.append(results.items(made.cell))
        except UserError as error:
            said.append(str(error))
    return Shown(f"{rows}{outcomes}", tuple(said))


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "mine"
    rows = [
        record(
            name,
            {"boolq": 0.25},
            protocol=FROZEN,
            perplexity=2.5,
            basis=Basis(code={"evaluate": {"a": "1" * 16}}),
        )
        for name in ("baseline", "one", "two")
    ]
    store(
        folder,
        FROZEN,
        [(made, items([True, False, False, place == 0])) for place, made in enumerate(rows)],
    )
    return folder


@pytest.fixture(scope="module")
def archived(loose: Path) -> Path:
    folder = loose.with_name("archived")
    shutil.copytree(loose, folder)
    archive(Store(folder))
    return folder


def flips(data: bytes) -> Iterator[bytes]:
    for step in range(PLACES):
        place = step * len(data) // PLACES
        flipped = data[place] ^ (1 << step % 8)
        yield data[:place] + bytes([flipped]) + data[place + 1 :]


def cuts(data: bytes) -> Iterator[bytes]:
    for step in range(PLACES):
        yield data[: step * len(data) // PLACES]


def inside(spoil: Callable[[bytes], Iterator[bytes]]) -> Callable[[bytes], Iterator[bytes]]:
    """What a compressed file holds spoiled, and compressed again: its checksum is then right."""

    def spoiled(data: bytes) -> Iterator[bytes]:
        yield from map(gzip.compress, spoil(gzip.decompress(data)))

    return spoiled


FILES = {
    "record": ("loose", "records/*one*.json"),
    "items": ("loose", "items/*one*.jsonl.gz"),
    "plan": ("loose", "cells.json"),
    "archived records": ("archived", "records.jsonl.gz"),
    "archived items": ("archived", "items.jsonl.gz"),
}
SPOILS = {
    "flipped": flips,
    "cut": cuts,
    "flipped inside": inside(flips),
    "cut inside": inside(cuts),
}

CASES = [
    (file, spoil)
    for file, (_, pattern) in FILES.items()
    for spoil in SPOILS
    if pattern.endswith(".gz") or "inside" not in spoil
]


@pytest.mark.parametrize(("file", "spoil"), CASES)
def test_no_spoiled_byte_changes_a_number_unseen(
    file: str, spoil: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kind, pattern = FILES[file]
    folder = tmp_path / "mine"
    shutil.copytree(request.getfixturevalue(kind), folder)
    [path] = folder.glob(pattern)
    data, whole = path.read_bytes(), shown(folder)
    assert whole.said == ()
    named = 0
    for spoiled in SPOILS[spoil](data):
        path.write_bytes(spoiled)
        now = shown(folder)
        assert now.said or now.numbers == whole.numbers, spoiled
        # What is named has its file and no line break; a record that is gone is a cell without one.
        assert all("\n" not in sentence for sentence in now.said)
        known = (str(path), "no record yet", "a damaged record")
        assert all(any(word in sentence for word in known) for sentence in now.said)
        named += bool(now.said)
    assert named > PLACES // 2


def edited(values: dict[str, Any], place: tuple[str, ...], value: object) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(values))
    at = copy
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    return copy


EDITS = {
    "an accuracy of 1.7": (("tasks", "boolq", "metrics", "acc"), 1.7),
    "an accuracy that is no number": (("tasks", "boolq", "metrics", "acc"), float("nan")),
    "a perplexity of -1": (("perplexity", "wikitext2", "value"), -1.0),
    "an endless perplexity": (("perplexity", "wikitext2", "value"), float("inf")),
    "a negative error": (("tasks", "boolq", "stderr", "acc"), -0.1),
    "fewer than no parameters": (("size", "parameters"), -1),
    "a format that is older": (("format",), FORMAT - 1),
}
WITHIN = {
    "another accuracy": (("tasks", "boolq", "metrics", "acc"), 0.75),
    "other data": (("tasks", "boolq", "data"), "others"),
    "other code": (("basis", "code", "evaluate", "a"), "2" * 16),
    "no items": (("items_sha256",), None),
    "no basis": (("basis",), None),
}


@pytest.mark.parametrize("edit", [*EDITS, *WITHIN])
def test_a_record_edited_by_hand_is_named(edit: str, loose: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(loose, folder)
    [path] = folder.glob("records/*one*.json")
    values = json.loads(path.read_text())
    path.write_text(json.dumps(edited(values, *{**EDITS, **WITHIN}[edit])))
    with pytest.raises(Damaged, match="it is not what was written"):
        Store(folder).read(path.stem)
    assert len(shown(folder).said) == 2


@pytest.mark.parametrize("edit", [name for name in EDITS if "format" not in name])
def test_a_record_of_the_first_format_is_held_to_the_ranges(
    edit: str, loose: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(loose, folder)
    [path] = folder.glob("records/*one*.json")
    values = json.loads(path.read_text())
    for later in ("sha256", "basis", "items_sha256"):
        del values[later]
    path.write_text(json.dumps({**values, "format": 1}))
    assert shown(folder).said == ()
    path.write_text(json.dumps(edited({**values, "format": 1}, *EDITS[edit])))
    with pytest.raises(Damaged, match=f"{path.name}: damaged"):
        Store(folder).read(path.stem)


def test_links_that_lead_nowhere_are_damage_and_not_absence(archived: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(archived, folder)
    (folder / "records.jsonl.gz").unlink()
    (folder / "records.jsonl.gz").symlink_to("nowhere")
    [damage] = Store(folder).damage()
    assert str(folder / "records.jsonl.gz") in str(damage)
    (folder / "cells.json").unlink()
    (folder / "cells.json").symlink_to("cells.json")
    with pytest.raises(UserError, match=r"cells\.json: damaged"):
        Store(folder).plan()
