"""`moebench compress` and `moebench evaluate` give what a cell of a suite gives, to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import reference
from harness.records.record import Record
from harness.records.store import Store

pytestmark = pytest.mark.slow

STEPS = """\
    { method = "random", keep = 3 },
    { method = "gptq", group = 32 },
"""
SUITE = """\
models = ["tiny"]
seeds = [1]
[protocol]
dtype = "float32"
tasks = ["boolq", "piqa"]
average = ["boolq", "piqa"]
perplexity = ["wikitext2"]
limit = 8
windows = 8
measure = []
[calibration]
ref = "reference"
sequences = 4
length = 32
[[recipes]]
name = "both"
steps = [
"""
RECIPE = """\
[calibration]
ref = "reference"
sequences = 4
length = 32
"""
Moebench = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A folder with the model, and a suite that was run with its artifacts kept."""
    place = tmp_path_factory.mktemp("verbs")
    (place / "tiny").symlink_to(checkpoint)
    (place / "mine.toml").write_text(f"{SUITE}{STEPS}]\n")
    (place / "recipe.toml").write_text(f"steps = [\n{STEPS}]\n{RECIPE}")
    moebench(place, "run", "mine.toml", "--keep-artifacts")
    return place


def moebench(place: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments, "--data-root", str(reference.DATA)],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MOEBENCH_CACHE": str(place / "cache" / arguments[0])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def record(folder: Path, row: str) -> Record:
    [ours] = [r for r in Store(folder / "results" / "mine").planned() if r.row == row]
    assert ours.status == "ok", ours.reason
    return ours


def artifact(folder: Path, row: str) -> Path:
    return Store(folder / "results" / "mine").artifacts / record(folder, row).cell


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_artifact_is_that_of_the_suite_s_cell(folder: Path) -> None:
    moebench(
        *(folder, "compress", "--model", "tiny", "--recipe", "recipe.toml", "--seed", "1"),
        *("--out", "small"),
    )
    ours, theirs = contents(folder / "small"), contents(artifact(folder, "both"))
    assert ours.keys() == theirs.keys()
    assert {"edits.json", "config.json", "model.safetensors"} <= ours.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.parametrize("row", ["baseline", "both"])
def test_the_numbers_are_those_of_the_suite_s_cell(row: str, folder: Path) -> None:
    model = "tiny" if row == "baseline" else str(artifact(folder, row))
    out = moebench(
        *(folder, "evaluate", model, "--tasks", "boolq,piqa", "--perplexity", "wikitext2"),
        *("--limit", "8", "--json"),
    )
    theirs = json.loads(record(folder, row).model_dump_json())
    for kind, ours in json.loads(out).items():
        assert set(ours) == {"tasks": {"boolq", "piqa"}, "perplexity": {"wikitext2"}}[kind]
        assert timeless(ours) == timeless(theirs[kind])


def timeless(results: dict[str, Any]) -> dict[str, Any]:
    """Results without the seconds that they took."""
    return {
        name: {field: value for field, value in result.items() if field != "seconds"}
        for name, result in results.items()
    }
