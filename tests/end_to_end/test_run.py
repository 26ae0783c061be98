"""`moebench run` from the console: killed at any moment it goes on and ends the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import reference
from harness.records.store import Store
from harness.report.publish import board_of
from harness.report.tables import render

pytestmark = pytest.mark.slow

SUITE = """
title = "Killed and started again"
models = ["{model}"]
[protocol]
dtype = "float32"
tasks = ["boolq"]
average = ["boolq"]
perplexity = []
limit = 8
measure = ["size", "memory"]
sequence_length = 64
threads = 1
[calibration]
ref = "reference"
sequences = 4
length = 32
[[recipes]]
name = "random, keep 2"
steps = [{{ method = "random", keep = 2 }}]
seeds = [0, 1]
[[recipes]]
name = "random, keep 1"
steps = [{{ method = "random", keep = 1 }}]
"""
CELLS = 4
KILL_IN_WRITE = """
import os, signal, sys
from pathlib import Path
replace = Path.replace
def dying(self, target):
    if Path(target).parent.name == "records":
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = dying
from harness.cli import main
sys.argv[0] = "moebench"
main()
"""


@dataclass
class Bench:
    """A suite in a folder of its own, and the command that runs it."""

    folder: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / "results" / "tiny")

    def start(self, program: Sequence[str] = ("-m", "harness")) -> subprocess.Popen[str]:
        data = str(reference.DATA)
        command = [sys.executable, *program, "run", "tiny.toml", "--data-root", data]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "MOEBENCH_CACHE": str(self.folder / "cache"), "NO_COLOR": "1"},
        )

    def finish(self) -> tuple[str, str]:
        with self.start() as process:
            out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        return out, err

    def records(self) -> dict[str, bytes]:
        folder = self.store.folder / "records"
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*.json"))}

    def wait_for_records(self, count: int, process: subprocess.Popen[str]) -> None:
        """And until the next cell runs."""
        while process.poll() is None:
            if len(self.records()) >= count and self.store.work.exists():
                return
            time.sleep(0.02)


def bench(folder: Path, checkpoint: Path) -> Bench:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.toml").write_text(SUITE.format(model=checkpoint))
    return Bench(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> tuple[Bench, str, str]:
    """A run that nobody disturbed, with its stdout and stderr."""
    there = bench(tmp_path_factory.mktemp("whole"), checkpoint)
    out, err = there.finish()
    return there, out, err


def test_a_run_leaves_records_tables_and_plots(whole: tuple[Bench, str, str]) -> None:
    there, out, err = whole
    assert len(there.records()) == CELLS
    folder = there.store.folder
    names = {path.name for path in folder.iterdir()}
    assert {"suite.toml", "cells.json", "leaderboard.md", "leaderboard.csv"} <= names
    assert {path.suffix for path in folder.iterdir()} >= {".png", ".svg", ".tex"}
    assert not (folder / ".work").exists()
    assert "random, keep 2" in out
    lines = [line for line in err.splitlines() if line.startswith("cell ")]
    assert len(lines) == CELLS
    assert "  baseline  seed 0  ok  " in lines[0]
    assert "random, keep 1  seed 0  refused  " in lines[3]
    assert "Warning" not in err


def test_every_record_says_what_it_was(whole: tuple[Bench, str, str]) -> None:
    records = whole[0].store.planned()
    baseline, first, second, refused = records
    assert [record.status for record in records] == ["ok", "ok", "ok", "refused"]
    assert baseline.edits == []
    assert baseline.size is not None
    assert first.size is not None
    assert first.size.parameters < baseline.size.parameters
    assert first.recipe[0].calibration is None  # it reads no data
    assert first.recipe[0].options["seed"] == 0
    assert second.recipe[0].options["seed"] == 1
    assert first.memory_running is not None
    assert first.compression_seconds is not None
    assert first.environment is not None
    assert first.environment.threads == 1
    assert first.tasks["boolq"].items == 8
    assert len(whole[0].store.items(first.cell)) == 8
    assert refused.reason is not None
    assert refused.reason.startswith("keep = 1")


def test_killed_at_random_times_it_ends_with_the_same_table(
    whole: tuple[Bench, str, str], tmp_path: Path, checkpoint: Path
) -> None:
    there = bench(tmp_path / "killed", checkpoint)
    dice = random.Random(20)
    finished: dict[str, bytes] = {}
    for count, kind in ((0, signal.SIGKILL), (1, signal.SIGINT)):
        with there.start() as process:
            there.wait_for_records(count, process)
            time.sleep(dice.uniform(0.0, 1.0))
            process.send_signal(kind)
            _, err = process.communicate(timeout=600)
        if kind == signal.SIGINT and process.returncode != 0:
            assert process.returncode == 130
            assert "Finished cells are kept; the same command goes on from here." in err
            assert "Traceback" not in err
        records = there.records()
        assert records.items() >= finished.items()
        finished = records
    with there.start(("-c", KILL_IN_WRITE)) as process:
        process.communicate(timeout=600)
    if len(finished) < CELLS:
        assert process.returncode == -signal.SIGKILL
        assert there.records() == finished
    there.finish()
    assert there.records().items() >= finished.items()
    assert steady(there) == steady(whole[0])


def steady(there: Bench) -> str:
    """The leaderboard without times and memory."""
    return render(board_of(there.store).without_measured(), "csv")


def test_a_dry_run_tells_counts_and_refusals(whole: tuple[Bench, str, str]) -> None:
    there = whole[0]
    command = [sys.executable, "-m", "harness", "run", "tiny.toml", "--dry-run"]
    done = subprocess.run(
        [*command, "--data-root", str(reference.DATA)],
        cwd=there.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    records = [json.loads(data) for data in there.records().values()]
    sizes = {record["cell"]: record["size"] for record in records}
    assert len(lines) == CELLS
    assert all("  done  " in line for line in lines)
    assert f"-> {sizes[lines[1].split()[2]]['parameters']:,} parameters" in lines[1]
    assert "experts 2 2" in lines[1]
    assert "step 1 (random) refuses: keep = 1" in lines[3]
