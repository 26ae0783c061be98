"""`moebench run --models`, `verdict` and `gate`, end to end on a model of two blocks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import reference
from harness.records.store import Store
from tests.models import save_checkpoint

pytestmark = pytest.mark.slow

SUITE = """
models = ["acme/Mixtral-8x7B-v0.1"]
[protocol]
dtype = "float32"
tasks = ["boolq"]
average = ["boolq"]
perplexity = []
limit = 8
measure = ["size"]
threads = 1
[calibration]
ref = "reference"
sequences = 4
length = 32
[published]
table = "moe-i2.table1"
[[recipes]]
name = "pruned"
published = "P"
families = ["mixtral"]
steps = [{ method = "random", ratio = 0.25 }]
[[recipes]]
name = "never here"
families = ["qwen2_moe"]
steps = [{ method = "random", ratio = 0.25 }]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the suite, run once on a model that stands in for the suite's own."""
    place = tmp_path_factory.mktemp("work")
    save_checkpoint(place / "tiny")
    (place / "mine.toml").write_text(SUITE)
    done = moebench(place, "run", "mine.toml", "--models", "tiny", "--data-root", reference.DATA)
    assert done.returncode == 0, done.stderr
    return place


def moebench(place: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MOEBENCH_CACHE": str(place / "cache"), "COLUMNS": "160"},
    )


def test_other_models_have_a_folder_of_their_own_and_their_families_recipes(folder: Path) -> None:
    assert [path.name for path in (folder / "results").iterdir()] == ["mine@tiny"]
    board = moebench(folder, "leaderboard", "mine@tiny", "--format", "csv").stdout
    assert ",pruned," in board
    assert "never here" not in board


def test_the_verdict_says_which_model_it_was(folder: Path) -> None:
    done = moebench(folder, "verdict", "mine@tiny", "--format", "csv")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if ",8x7B,P,pruned," in line]
    assert len(lines) == 9
    assert all("not comparable" in line and "model: ours is tiny" in line for line in lines)


def test_the_gate_passes_the_same_and_stops_what_is_worse(folder: Path) -> None:
    again = ("gate", "mine@tiny", "--baseline", "results/mine@tiny", "--margin", "50")
    green = moebench(folder, *again)
    assert green.returncode == 0, green.stderr
    assert "2 non-inferior, 0 regressed" in green.stdout
    assert green.stdout.splitlines()[-1].startswith(("The code is the same", "No code is known"))
    uncertain = moebench(folder, *again[:-1], "1")
    assert (uncertain.returncode, "2 cannot tell" in uncertain.stdout) == (0, True)
    assert moebench(folder, *again[:-1], "1", "--strict").returncode == 1
    broken = folder / "broken" / "mine@tiny"
    shutil.copytree(folder / "results" / "mine@tiny", broken)
    store = Store(broken)
    for record in store.records():
        store.write(record.model_copy(update={"status": "failed"}))
    red = moebench(folder, *again, "--results", "broken")
    assert (red.returncode, "2 regressed" in red.stdout) == (1, True)


def test_a_gate_without_a_baseline_is_one_sentence(folder: Path) -> None:
    done = moebench(folder, "gate", "mine@tiny", "--baseline", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "moebench: nowhere: no results here. Run 'moebench run' first.\n"
