"""Half a character in a data file: a sentence with file and line, wherever the text is used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from harness.calibration.corpora.text_files import documents
from harness.data import DataRoot
from harness.data.files import read
from harness.errors import UserError

ROWS = [{"text": "whole"}, {"text": "half \ud83d"}]


def put(path: Path) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    if path.suffix == ".json":
        lines = json.dumps(ROWS, indent=0).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.ndjson"])
def test_rows_with_half_a_character_are_named(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / name)
    for reader in (read, documents):
        with pytest.raises(UserError, match=rf"{name}:\d+: U\+D83D is half a character"):
            list(reader(path))


def test_perplexity_texts_and_tasks_read_no_half_character(tmp_path: Path) -> None:
    put(tmp_path / "Salesforce/wikitext/wikitext-2-raw-v1/test.jsonl")
    root = DataRoot(tmp_path)
    with pytest.raises(UserError, match=r"test\.jsonl:2: U\+D83D is half a character"):
        list(root.rows("Salesforce/wikitext", "wikitext-2-raw-v1", "test"))
    with pytest.raises(UserError, match=r"test\.jsonl:2: U\+D83D is half a character"):
        list(root.dataset("Salesforce/wikitext", "wikitext-2-raw-v1")["test"])
