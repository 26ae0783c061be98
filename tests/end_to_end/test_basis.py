"""Runs after something has changed: a method's own statistic, the data, the protocol's words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.records.record import Record
from harness.records.store import Store

pytestmark = pytest.mark.slow

METHOD = '''
"""The experts that see the most tokens, or the fewest."""

from collections.abc import Iterator

import torch

from harness.method import Calibration, Edit, KeepExperts, Method, MoEModel, Note, Seen, Statistic


class Load(Statistic):
    """Tokens per expert."""

    def start(self, block) -> None:
        self.load = torch.zeros(block.model.experts, dtype=torch.float64)  # [experts]

    def update(self, seen: Seen) -> None:
        self.load += torch.stack([seen.routed(e).sum() for e in range(len(self.load))])


class Busiest(Method):
    """Keeps the two experts of each block whose load is largest."""

    name = "busiest"
    reference = "none"

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        for block in calibration.walk(model):
            if block.experts:
                load = block.collect(Load()).load
                kept = sorted(load.argsort(descending=True)[:2].tolist())
                yield KeepExperts(block=block.index, experts=tuple(kept))
'''
SUITE = """
models = ["{model}"]
[protocol]
dtype = "float32"
tasks = []
average = []
perplexity = ["wikitext2"]
measure = ["size", "flops"]
sequence_length = 32
threads = 1
[calibration]
ref = "{text}"
sequences = 4
length = 32
[[recipes]]
name = "busiest"
steps = [{{ method = "mine.py:Busiest" }}]
"""


@dataclass
class Bench:
    """A folder with a suite, a method and data, and the command that runs it there."""

    folder: Path

    def run(self, *options: str) -> str:
        """Run, and return stderr."""
        command = [sys.executable, "-m", "harness", "run", "own.toml", "--data-root", "data"]
        done = subprocess.run(
            [*command, *options],
            cwd=self.folder,
            text=True,
            capture_output=True,
            check=False,
            env={**os.environ, "MOEBENCH_CACHE": str(self.folder / "cache"), "NO_COLOR": "1"},
        )
        assert done.returncode == 0, done.stderr
        self.out = done.stdout
        return done.stderr

    def record(self, row: str) -> Record:
        store = Store(self.folder / "results" / "own")
        [record] = [record for record in store.planned() if record.row == row]
        return record

    def experts(self) -> list[object]:
        return [edit["experts"] for edit in self.record("busiest").edits]

    def statistics(self) -> dict[str, int]:
        """Every kept statistic and when it was written."""
        files = (self.folder / "cache" / "statistics").rglob("*.sealed")
        return {path.name: path.stat().st_mtime_ns for path in files}

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def bench(tmp_path: Path, checkpoint: Path, data_root: Path, calibration_text: Path) -> Bench:
    shutil.copytree(data_root, tmp_path / "data")
    (tmp_path / "mine.py").write_text(METHOD)
    suite = SUITE.format(model=checkpoint, text=calibration_text)
    (tmp_path / "own.toml").write_text(suite)
    return Bench(tmp_path)


def test_an_edited_statistic_gives_the_new_experts_at_once(bench: Bench) -> None:
    """And once more unchanged, those of the cache."""
    bench.run()
    first = bench.experts()
    bench.edit("mine.py", "self.load += torch", "self.load -= torch")
    assert "2 cells: 1 run now, 1 before" in bench.run()
    second = bench.experts()
    assert all(new != old for new, old in zip(second, first, strict=True))
    kept = bench.statistics()
    bench.edit("mine.py", '"""Tokens per expert."""', '"""The number of tokens."""  # counted')
    shutil.rmtree(bench.folder / "results")
    bench.run()
    assert bench.experts() == second
    assert bench.statistics() == kept


def test_another_text_is_never_compared_with_the_old_one(bench: Bench) -> None:
    bench.run()
    before = bench.record("busiest")
    file = bench.folder / "data" / "Salesforce" / "wikitext" / "wikitext-2-raw-v1" / "test.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    words = [{"text": row["text"].replace("the", "eht")} for row in rows]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in words))
    os.utime(file, ns=times)  # same size and same mtime: only the content tells
    said = bench.run("--only", "busiest")
    assert "busiest  seed 0 again: data of evaluate: Salesforce/wikitext" in said
    after = bench.record("busiest")
    assert after.perplexity["wikitext2"].value != before.perplexity["wikitext2"].value
    assert after.size == before.size
    assert "other data" in bench.out
    assert "Of older code or data: data of evaluate: Salesforce/wikitext" in bench.out
