"""Records are judged, printed and drawn where nothing could be run: no runner, no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.records.protocol import Protocol
from tests.records.made_up import items, record, store

SUITE = """
models = ["mistralai/Mixtral-8x7B-v0.1"]
published = { table = "moe-i2.table1" }
[[recipes]]
name = "pruned"
steps = [{ method = "eep", ratio = 0.25 }]
published = "P"
"""
CODE = """
import json, sys
from harness.cli.app import app
code = 0
try:
    app(sys.argv[1:])
except SystemExit as done:
    code = done.code or 0
loaded = sorted(name for name in sys.modules if name.split(".")[0] == "torch" or name.startswith(
    ("harness.run", "harness.model", "harness.calibration", "harness.method")))
print(json.dumps([code, loaded]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("leaderboard", ["--format", "csv"]),
        ("plot", ["--out", "figures"]),
        ("verdict", ["--format", "md"]),
        ("gate", ["--baseline", "mine"]),
    ],
)
def test_a_verb_about_records_loads_no_runner(
    tmp_path: Path, verb: str, options: list[str]
) -> None:
    protocol = Protocol(tasks=("boolq",), average=("boolq",), perplexity=())
    outcomes = items([True] * 70 + [False] * 30)
    baseline = record("baseline", {"boolq": 0.7}, protocol=protocol)
    store(tmp_path / "mine", protocol, [(baseline, outcomes)], suite=SUITE)
    done = subprocess.run(
        [sys.executable, "-c", CODE, verb, "mine", "--results", ".", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    code, loaded = json.loads(done.stderr.splitlines()[-1])
    assert (code, loaded) == (0, [])
    assert done.stdout
