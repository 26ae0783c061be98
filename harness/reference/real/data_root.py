"""A data root for suites on the real model: tasks as they are, and texts from plain files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from harness.disk.reading import read_text

WIKITEXT = "Salesforce/wikitext/wikitext-2-v1/test.jsonl"
PTB = "ptb-text-only/ptb_text_only/test.jsonl"


def write(folder: Path, tasks: Path | None, wikitext: Path | None, ptb: Path | None) -> None:
    """Lay out a data root; each part is left out where it is None.

    Args:
        folder: The data root.
        tasks: A data root with the tasks' data sets, which are copied.
        wikitext: WikiText-2's test text as word tokens, a paragraph per line.
        ptb: Mikolov's `ptb.test.txt`, a sentence per line.
    """
    if tasks:
        _copy(tasks, folder)
    if wikitext:
        # The hub's rows: with the line's end, but empty where nothing else is on the line.
        lines = read_text(wikitext).splitlines(keepends=True)
        _rows(folder / WIKITEXT, "text", (line if line.strip() else "" for line in lines))
    if ptb:
        lines = read_text(ptb).splitlines()
        _rows(folder / PTB, "sentence", (line.strip() for line in lines))


def _copy(source: Path, folder: Path) -> None:
    """Copy all files, without the permissions they have there."""
    for file in source.rglob("*"):
        if file.is_file():
            copy = folder / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _rows(file: Path, field: str, texts: Iterable[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps({field: text}, ensure_ascii=False) for text in texts)
    file.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
