"""A world of small files of every kind that moebench reads: made once, whole again for each fault.

The stage is the working folder of the verbs. A folder in which something is spoiled is a copy; the
original waits aside, so that its files keep the times and inodes under which hashes are noted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from pyarrow import json as rows  # type: ignore[import-untyped]
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from harness import reference
from harness.cache.notes import SETTLED
from harness.papers import published
from tests.faults.calls import call
from tests.models import save_checkpoint

ROWS = {"aps/super_glue": 4, "baber/piqa": 4, "Salesforce/wikitext": 24}
SUITE = """\
title = "Spoiled"
models = ["base"]
seeds = [0]

[protocol]
dtype = "float32"
tasks = ["boolq", "piqa"]
average = ["boolq", "piqa"]
perplexity = ["wikitext2"]
measure = ["size"]
limit = 4
threads = 1

[calibration]
ref = "reference"
sequences = 4
length = 32

[published]
table = "moe-i2.table1"

[[recipes]]
name = "frequency, keep 2 of 4"
steps = [{ method = "frequency", keep = 2 }]
published = "P"
"""
RECIPE = """\
steps = [{ method = "wanda", sparsity = 0.5 }]

[calibration]
ref = "reference"
sequences = 4
length = 32
"""
WRITTEN = ("cache", "results", "archived")
"""Folders that verbs write to."""
OUT = "out"
"""Folder of what a verb makes."""


class World:
    """The files, as they should be and on the stage.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.stage = folder / "stage"
        self.whole = folder / "whole"
        self.aside = folder / "aside"
        self.stage.mkdir()
        self.aside.mkdir()
        with self.entered():
            self._make()
        shutil.copytree(self.stage, self.whole, copy_function=shutil.copy2)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Make the stage the working folder, with a cache of its own; one thread computes."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with (
                contextlib.chdir(self.stage),
                mock.patch.dict(os.environ, MOEBENCH_CACHE=str(self.stage / "cache")),
            ):
                yield
        finally:
            torch.set_num_threads(threads)

    @contextlib.contextmanager
    def copied(self, *names: str) -> Iterator[None]:
        """Put copies of folders, and of those that verbs write to, in their places for a while."""
        every = dict.fromkeys((*names, *WRITTEN))
        for name in every:
            (self.stage / name).rename(self.aside / name)
            shutil.copytree(self.whole / name, self.stage / name)
        try:
            yield
        finally:
            for name in every:
                shutil.rmtree(self.stage / name, ignore_errors=True)
                (self.aside / name).rename(self.stage / name)
            shutil.rmtree(self.stage / OUT, ignore_errors=True)

    def digest(self) -> dict[str, str]:
        """Return the sha256 of all files in folders that no verb writes to."""
        return {
            str(path.relative_to(self.stage)): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in sorted(self.stage.iterdir())
            if folder.name not in (*WRITTEN, OUT)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def _make(self) -> None:
        _checkpoint(Path("base"))
        _data(Path("data"))
        shutil.copytree(published.FOLDER, "papers")
        Path("suite").mkdir()
        Path("suite/tiny.toml").write_text(SUITE)
        Path("suite/recipe.toml").write_text(RECIPE)
        # A note of a hash is taken of a file that was left alone for so long.
        time.sleep(SETTLED / 1e9 + 0.1)
        _made("run", "suite/tiny.toml", "--data-root", "data")
        for name in ("archived", "before"):
            shutil.copytree("results", name)
        _made("archive", "tiny", "--results", "archived")
        _made("run", "suite/tiny.toml", "--data-root", "data", "--results", "archived")
        recipe = ("--recipe", "suite/recipe.toml")
        _made("compress", "--model", "base", *recipe, "--out", "artifact")
        Path("tokens").mkdir()
        [saved, *_] = sorted(Path("cache/tokens").iterdir())
        shutil.copy(saved, "tokens/saved.safetensors")
        ids = load_file(saved)["input_ids"]
        save_file({"input_ids": ids.flip(0).contiguous()}, "tokens/plain.safetensors")


def _made(*arguments: str) -> None:
    seen = call(*arguments)
    if seen.code != 0:
        raise AssertionError(f"{arguments}: {seen}")


def _checkpoint(folder: Path) -> None:
    """A checkpoint in shards, with an index and settings of generation."""
    save_checkpoint(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "README.md").write_text("---\nlicense: mit\nlanguage: en\n---\n\n# Tiny\n")
    names = sorted(tensors)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    where: dict[str, str] = {}
    for number, half in enumerate(halves, 1):
        file = f"model-{number:05}-of-{len(halves):05}.safetensors"
        save_file({name: tensors[name] for name in half}, folder / file, {"format": "pt"})
        where |= dict.fromkeys(half, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def _data(root: Path) -> None:
    """The first rows of three data sets; piqa's lie in parquet, and wikitext's have no README."""
    for name, count in ROWS.items():
        shutil.copytree(reference.DATA / name, root / name)
        for file in (root / name).rglob("*.jsonl"):
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:count]))
    piqa = root / "baber/piqa"
    for file in piqa.rglob("*.jsonl"):
        parquet.write_table(rows.read_json(file), file.with_suffix(".parquet"))
        file.unlink()
    readme = piqa / "README.md"
    readme.write_text(readme.read_text().replace(".jsonl", ".parquet"))
    (root / "Salesforce/wikitext/README.md").unlink()
