"""Fingerprints of data sets: of all files' names and contents, and of nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.data.fingerprint import Fingerprints


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("acme/text/data/test.jsonl", "acme/text/README.md", "acme/other/test.jsonl"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"of {name}")
    return tmp_path / "root"


def of(root: Path | None, hub_id: str = "acme/text") -> str:
    return Fingerprints(root).of(hub_id)


@pytest.mark.parametrize("name", ["data/test.jsonl", "README.md"])
def test_other_content_of_the_same_size_and_time_is_noticed(root: Path, name: str) -> None:
    path = root / "acme" / "text" / name
    long_ago = (10**18, 10**18)
    os.utime(path, ns=long_ago)
    before = of(root)
    path.write_text(path.read_text().replace("of", "fo"))
    os.utime(path, ns=long_ago)
    assert of(root) != before


def test_names_of_files_count_and_the_root_s_place_does_not(root: Path) -> None:
    before = of(root)
    moved = root.rename(root.with_name("elsewhere"))
    assert of(moved) == before
    file = moved / "acme" / "text" / "data" / "test.jsonl"
    file.rename(file.with_name("validation.jsonl"))
    assert of(moved) != before


def test_other_data_sets_and_hidden_files_do_not_count(root: Path) -> None:
    before = of(root)
    (root / "acme" / "other" / "test.jsonl").write_text("changed")
    (root / "acme" / "text" / ".DS_Store").write_text("of a file manager")
    assert of(root) == before
    everything = of(root, "")
    (root / "acme" / "other" / "test.jsonl").write_text("changed again")
    assert of(root, "") != everything


def test_data_behind_links_counts(root: Path, tmp_path: Path) -> None:
    """Also where a folder in the data set is a link; one that leads back is no trap."""
    store = (root / "acme" / "text" / "data").rename(tmp_path / "store")
    (root / "acme" / "text" / "data").symlink_to(store)
    (store / "back").symlink_to(root)
    before = of(root)
    (store / "test.jsonl").write_text("changed")
    assert of(root) != before


def test_a_data_set_that_is_not_there_has_none(root: Path) -> None:
    assert of(root, "acme/gone") == ""


def test_the_hub_s_is_the_commit_in_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    assert of(None) == ""
    made = tmp_path / "datasets" / "acme___text" / "default" / "0.0.0" / "1a2b"
    made.mkdir(parents=True)
    (made / "text-test.arrow").write_text("of the hub")
    prepared = of(None)
    assert len(prepared) == 64
    (made / "text-test.arrow").write_text("of a hand.")
    assert of(None) != prepared
    head = tmp_path / "hub" / "datasets--acme--text" / "refs" / "main"
    head.parent.mkdir(parents=True)
    head.write_text("c0ffee\n")
    assert of(None) == "c0ffee"


def test_a_large_root_is_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in root.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))
    monkeypatch.setattr("harness.cache.notes.SETTLED", 0)  # as if the files were a while old
    before = of(root)

    def unread(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr("harness.cache.notes._taken", unread)
    assert of(root) == before
