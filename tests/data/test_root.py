from __future__ import annotations

import gzip
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest

from harness.data import DataRoot
from harness.errors import UserError

ROWS = [{"text": f"row {number}", "label": number} for number in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CUT_SHORT = gzip.compress(LINES.encode(), mtime=0)[:-12]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "someone" / "things"
    place.mkdir(parents=True)
    return place


def _root(folder: Path) -> DataRoot:
    return DataRoot(folder.parent.parent)


def _configs(folder: Path, configs: list[dict[str, Any]]) -> None:
    (folder / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\nProse.\n")


def _write_parquet(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


WRITTEN: dict[str, Callable[[Path], object]] = {
    "test.jsonl": lambda file: file.write_text(LINES),
    "test.jsonl.gz": lambda file: file.write_bytes(gzip.compress(LINES.encode())),
    "test.json": lambda file: file.write_text(json.dumps(ROWS)),
    "test.json.gz": lambda file: file.write_bytes(gzip.compress(LINES.encode())),
    "test.ndjson": lambda file: file.write_text(LINES),
    "test.parquet": lambda file: _write_parquet(file),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_gives_the_same_rows(folder: Path, name: str) -> None:
    WRITTEN[name](folder / name)
    assert _root(folder).rows("someone/things", split="test") == ROWS


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(WRITTEN, 2)])
def test_a_split_in_two_formats_is_refused_naming_both_files(
    folder: Path, one: str, other: str, declared: bool
) -> None:
    for name in (one, other):
        WRITTEN[name](folder / name)
    if declared:
        split = {"split": "test", "path": "test*"}
        _configs(folder, [{"config_name": "c", "data_files": [split]}])
    first, second = sorted([one, other])
    said = f"{first} and {second} hold the same split in different formats"
    with pytest.raises(UserError, match=re.escape(said)):
        _root(folder).rows("someone/things", split="test")


def test_a_packed_file_beside_the_unpacked_one_is_not_read(folder: Path) -> None:
    (folder / "val.jsonl").write_text(LINES)
    (folder / "val.jsonl.zst").write_bytes(b"packed")
    assert _root(folder).rows("someone/things", files="val.jsonl*") == ROWS


def test_files_that_cannot_be_read_are_named_by_their_ending(folder: Path) -> None:
    (folder / "README.md").write_text("A card.")
    with pytest.raises(UserError, match=r"things: holds no data file; put those of someone/things"):
        _root(folder).rows("someone/things", split="test")
    (folder / "test.csv").write_text("text,label\nrow 0,0\n")
    said = r"things: files that end in \.csv are not read; write the rows as one of \.jsonl, "
    with pytest.raises(UserError, match=said):
        _root(folder).rows("someone/things", split="test")


def test_the_readme_says_which_files_a_config_and_split_have(folder: Path) -> None:
    for name in ("one/train-0.jsonl", "one/train-1.jsonl", "two/x.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(LINES)
    _configs(
        folder,
        [
            {
                "config_name": "one",
                "data_files": [{"split": "train", "path": "one/train-*"}],
                "default": True,
            },
            {"config_name": "two", "data_files": {"odd": ["two/x.jsonl"]}},
            {"config_name": "three", "data_dir": "one"},
            {"config_name": "four", "data_files": "two/*.jsonl"},
        ],
    )
    root = _root(folder)
    assert len(root.rows("someone/things")) == 10
    assert len(root.rows("someone/things", "two", "odd")) == 5
    assert len(root.rows("someone/things", "three", "train")) == 10
    assert len(root.rows("someone/things", "four", "train")) == 5
    with pytest.raises(UserError, match=r"README.md: unknown config 'tow'. Did you mean 'two'\?"):
        root.rows("someone/things", "tow")
    with pytest.raises(UserError, match=r"unknown split of config 'one' 'test'. Known: train."):
        root.rows("someone/things", "one", "test")


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("data/test-00000-of-00001.jsonl", "test"),
        ("valid.jsonl", "validation"),
        ("dev/part.jsonl", "validation"),
        ("things.jsonl", "train"),
        ("latest.jsonl", "train"),
    ],
)
def test_without_a_readme_names_say_which_split(folder: Path, file: str, split: str) -> None:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(LINES)
    assert _root(folder).rows("someone/things", "any config", split) == ROWS


def test_without_a_readme_a_folder_may_be_a_config(folder: Path) -> None:
    for config in ("main", "other"):
        (folder / config).mkdir()
        (folder / config / "test.jsonl").write_text(json.dumps({"config": config}))
    assert _root(folder).rows("someone/things", "main", "test") == [{"config": "main"}]


def test_a_limit_leaves_the_rest_unread(folder: Path) -> None:
    (folder / "train.jsonl").write_text(LINES + "not JSON\n")
    assert _root(folder).rows("someone/things", limit=5) == ROWS


def test_files_can_be_named_past_configs(folder: Path) -> None:
    (folder / "en").mkdir()
    (folder / "en" / "shard.0.json.gz").write_bytes(gzip.compress(LINES.encode()))
    assert _root(folder).rows("someone/things", files="en/shard.*.json.gz") == ROWS
    with pytest.raises(UserError, match="no file matches en/x"):
        _root(folder).rows("someone/things", files="en/x")


def test_a_fingerprint_follows_the_rows_not_the_format(folder: Path) -> None:
    (folder / "train.jsonl").write_text(LINES)
    first = _root(folder).fingerprint("someone/things")
    (folder / "train.jsonl").unlink()
    _write_parquet(folder / "train.parquet")
    assert _root(folder).fingerprint("someone/things") == first
    (folder / "train.parquet").unlink()
    (folder / "train.jsonl").write_text(LINES.replace("row 3", "row 4"))
    assert _root(folder).fingerprint("someone/things") != first


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train.jsonl", LINES[:-10].encode(), r"train.jsonl:5: it is not JSON, or is cut short"),
        (
            "train.jsonl",
            b'{"a": 1}\n[2]\n',
            r"train.jsonl:2: it should hold a JSON object, not a list",
        ),
        ("train.jsonl", b'{"a": "\xff"}\n', r"train.jsonl:1: it is not text in UTF-8"),
        ("train.jsonl.gz", CUT_SHORT, r"train.jsonl.gz: cannot be read"),
        ("train.jsonl.gz", b"plain", r"train.jsonl.gz: cannot be read to its end"),
        (
            "train.json",
            b"[{}, 3]",
            r"train.json: item 2: it should hold a JSON object, not a number",
        ),
        ("train.parquet", b"PAR1 but not really", r"train.parquet: cannot be read as parquet"),
        ("train.jsonl", b"\n", r"the split 'train' of someone/things has no rows"),
    ],
)
def test_a_bad_file_is_named_with_its_line(
    folder: Path, name: str, content: bytes, sentence: str
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        _root(folder).rows("someone/things")


def test_a_bad_readme_is_named(folder: Path) -> None:
    (folder / "README.md").write_text("---\nconfigs: [{config_name: a, data_files: 3}]\n---\n")
    with pytest.raises(
        UserError,
        match=r"README.md: the front matter has no readable `configs` \('data_files' should be",
    ):
        _root(folder).rows("someone/things", "a")
    (folder / "README.md").write_text("---\nconfigs: [\n---\n")
    with pytest.raises(UserError, match=r"README.md: the front matter: not valid YAML \(line 2: "):
        _root(folder).rows("someone/things", "a")


def test_several_configs_need_a_name(folder: Path) -> None:
    _configs(folder, [{"config_name": name, "data_files": "*.jsonl"} for name in ("a", "b")])
    with pytest.raises(UserError, match="name one of the configs of someone/things: a, b"):
        _root(folder).rows("someone/things")


def test_a_missing_data_set_is_named_with_its_nearest(folder: Path) -> None:
    nearest = re.escape("Did you mean 'someone/things'?")
    with pytest.raises(UserError, match=rf"someone/thing: no such folder; put .* {nearest}"):
        _root(folder).rows("someone/thing")
    with pytest.raises(UserError, match="nowhere: no such data root"):
        DataRoot(folder / "nowhere")


def test_splits_are_read_when_asked_for(folder: Path) -> None:
    (folder / "test.jsonl").write_text(LINES)
    (folder / "train.jsonl").write_text("not JSON")
    splits = _root(folder).dataset("someone/things")
    assert set(splits) == {"test", "train"}
    assert splits["test"][:]["label"] == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match=r"train.jsonl:1"):
        splits["train"]


def test_a_key_that_only_some_rows_have_is_kept(folder: Path) -> None:
    (folder / "train.jsonl").write_text('{"a": 1}\n{"a": 2, "b": 3}\n')
    assert _root(folder).dataset("someone/things")["train"][:] == {"a": [1, 2], "b": [None, 3]}


def test_without_a_path_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*args: Any, **options: Any) -> datasets.Dataset:
        asked.append((args, options))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert DataRoot(None).rows("someone/things", "main", "test") == ROWS
    assert asked == [(("someone/things", "main"), {"split": "test", "data_files": None})]


@pytest.mark.parametrize(
    "error",
    [ConnectionError("no route\nmore"), ValueError("no such config"), RuntimeError("script")],
)
def test_what_the_hub_cannot_give_is_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_dataset(*_: Any, **__: Any) -> Callable[[], None]:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match="cannot read someone/things, split train, from the hub"):
        DataRoot(None).rows("someone/things")
