"""A copy of the package is edited between two runs: what is due is said and run, and no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.records.record import Record
from harness.records.store import Store

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SUITE = """
models = ["reference/mixtral"]
[protocol]
dtype = "float32"
tasks = []
average = []
perplexity = ["wikitext2"]
measure = ["size"]
threads = 1
[calibration]
ref = "reference"
sequences = 4
length = 32
[[recipes]]
name = "wanda"
steps = [{ method = "wanda", sparsity = 0.5 }]
"""


@dataclass
class Copy:
    """A copy of the package and a suite, and the command that runs the one on the other."""

    folder: Path

    def run(self) -> str:
        """Run, and return stderr."""
        done = subprocess.run(
            [sys.executable, "-m", "harness", "run", "small.toml"],
            cwd=self.folder,
            text=True,
            capture_output=True,
            check=False,
            env={
                **os.environ,
                "PYTHONPATH": str(self.folder),
                "MOEBENCH_CACHE": str(self.folder / "cache"),
                "NO_COLOR": "1",
            },
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def edit(self, file: str, before: str, after: str) -> None:
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1
        path.write_text(text.replace(before, after), encoding="utf-8")

    def records(self) -> dict[str, Record]:
        return {one.row: one for one in Store(self.folder / "results" / "small").planned()}

    def perplexities(self) -> dict[str, float]:
        return {row: one.perplexity["wikitext2"].value for row, one in self.records().items()}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    folder = tmp_path_factory.mktemp("copy")
    for package in ("harness", "methods", "suites"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=leave)
    (folder / "small.toml").write_text(SUITE)
    made = Copy(folder)
    assert "2 cells: 2 run now, 0 before" in made.run()
    assert "2 cells: 0 run now, 2 before" in made.run()
    return made


def test_a_method_s_line(copy: Copy) -> None:
    before = copy.perplexities()
    copy.edit("methods/sparsity/wanda.py", "float().abs() * norms", "float().abs() * -norms")
    said = copy.run()
    assert "wanda  seed 0 again: code of compress: methods.sparsity.wanda" in said
    assert "2 cells: 1 run now, 1 before" in said
    after = copy.perplexities()
    assert after["wanda"] > before["wanda"]
    assert after["baseline"] == before["baseline"]


def test_a_line_of_a_stage(copy: Copy) -> None:
    before, sizes = copy.perplexities(), {row: one.size for row, one in copy.records().items()}
    line = "return totals / (batch.shape[1] - 1)"
    copy.edit("harness/evaluate/perplexity.py", line, f"{line} / 2")
    said = copy.run()
    assert "2 cells again: code of evaluate: harness.evaluate.perplexity" in said
    assert "2 cells: 2 run now, 0 before" in said
    assert {row: value**0.5 for row, value in before.items()} == pytest.approx(copy.perplexities())
    assert {row: one.size for row, one in copy.records().items()} == sizes


def test_a_line_of_the_model(copy: Copy) -> None:
    line = "weights = weights / weights.sum(-1, keepdim=True)"
    copy.edit("harness/model/layers/router.py", line, f"{line} / 2")
    said = copy.run()
    assert "2 cells again: code of compress: harness.model.layers.router" in said
    assert "2 cells: 2 run now, 0 before" in said


def test_words_and_the_places_of_imports(copy: Copy) -> None:
    copy.edit(
        "methods/sparsity/wanda.py", "norms = squares", "# In words.\n        norms = squares"
    )
    copy.edit("harness/evaluate/perplexity.py", '"""Perplexity', '"""The perplexity')
    copy.edit("harness/evaluate/perplexity.py", "import math\nimport time\n", "")
    line = "from typing import TYPE_CHECKING\n"
    copy.edit("harness/evaluate/perplexity.py", line, f"{line}import time, math\n")
    assert "2 cells: 0 run now, 2 before" in copy.run()
