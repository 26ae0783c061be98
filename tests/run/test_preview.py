"""A dry run of full-size models: no weights, no network, and the shares that papers print."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.plan.cells import cells
from harness.plan.find import installed
from harness.plan.suite import Suite
from harness.records.store import Store
from harness.run.preview import preview, state_of

SUITE = """\
title = "Full-size models"
models = {models}
seeds = [0]

[protocol]
dtype = "bfloat16"
tasks = ["boolq"]
average = ["boolq"]

[calibration]
ref = "reference"
sequences = 2
length = 8

[[recipes]]
name = "half of the experts"
steps = [{{ method = "random", ratio = 0.5 }}]

[[recipes]]
name = "four blocks"
steps = [{{ method = "block-drop", drop = 4 }}]

[[recipes]]
name = "both"
steps = [{{ method = "block-drop", drop = 4 }}, {{ method = "random", ratio = 0.5 }}]

[[recipes]]
name = "weights only"
steps = [{{ method = "magnitude", sparsity = 0.5 }}]
"""
MINUS = "\N{MINUS SIGN}"


def suite(*models: str) -> Suite:
    text = SUITE.format(models=list(models)).replace("'", '"')
    return Suite.parse(text, name="full", source="suites/full.toml")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def outcomes(model: str, results: Path, only: str | None = None) -> dict[str, str]:
    """Row to what is said of it, after its state."""
    line = re.compile(rf"cell \d/\d  -{{16}}  {re.escape(model)}  (.*)  seed 0  planned  (.*)")
    matches = [line.fullmatch(said) for said in preview(suite(model), results, only=only)]
    return {match[1]: match[2] for match in matches if match}


@pytest.mark.usefixtures("no_network")
def test_mixtral(tmp_path: Path) -> None:
    shown = outcomes("mistralai/Mixtral-8x7B-v0.1", tmp_path)
    eight, four = " ".join("8" * 32), " ".join("4" * 32)
    assert shown["baseline"] == f"46,702,792,704 parameters, 32 blocks, experts {eight}"
    assert shown["half of the experts"] == (
        f"46,702,792,704 -> 24,153,690,112 parameters ({MINUS}48.28 %), "
        f"expert parameters {MINUS}50.00 %, 32 blocks, experts {four}"
    )
    # A block: experts, their router, q, k, v and o, two norms.
    block = 8 * 3 * 4096 * 14336 + 8 * 4096 + 4096 * (4096 + 1024 + 1024 + 4096) + 2 * 4096
    assert shown["four blocks"].startswith(
        f"46,702,792,704 -> {46_702_792_704 - 4 * block:,} parameters ({MINUS}12.43 %), "
        f"expert parameters {MINUS}12.50 %, 28 blocks"
    )
    assert f"expert parameters {MINUS}56.25 %, 28 blocks" in shown["both"]
    assert "parameters (unchanged), expert parameters unchanged, 32" in shown["weights only"]


@pytest.mark.usefixtures("no_network")
def test_a_dense_model_has_no_expert_parameters(tmp_path: Path) -> None:
    shown = outcomes("mistralai/Mistral-7B-v0.1", tmp_path)
    assert shown["baseline"] == "7,241,732,096 parameters, 32 blocks"
    assert shown["four blocks"] == (
        f"7,241,732,096 -> 6,369,284,096 parameters ({MINUS}12.05 %), 28 blocks"
    )
    assert shown["half of the experts"].startswith("step 1 (random) refuses: ")
    assert shown["both"].startswith("step 2 (random) refuses: ")


@pytest.mark.usefixtures("no_network")
def test_deepseek_moe(tmp_path: Path) -> None:
    shown = outcomes("deepseek-ai/deepseek-moe-16b-base", tmp_path, only="half*")
    assert shown["half of the experts"] == (
        f"16,375,728,128 -> 8,899,708,928 parameters ({MINUS}45.65 %), expert parameters "
        f"{MINUS}50.00 %, 28 blocks, experts 0 {' '.join(['32'] * 27)}"
    )


def test_a_model_on_disk_has_its_real_cells(checkpoint: Path, store: Store) -> None:
    here = suite(str(checkpoint))
    assert cells(here, offline=True) == cells(here)
    baseline = cells(here)[0]
    assert state_of(baseline, store, {}) == (baseline.id, "to run")
    store.write(baseline.record("ok", 1.0), [])
    assert state_of(baseline, store, {}) == (baseline.id, "done")


@pytest.mark.parametrize(
    ("row", "share"),
    [("P 25 %", "25.00"), ("P 25 % + D (Mixtral)", "51.79"), ("P 25 % + D (Qwen)", "53.98")],
)
def test_the_shares_of_moe_i2_table_1(
    row: str, share: str, no_network: None, tmp_path: Path
) -> None:
    """As the paper prints them, from the suite's own recipes on full-size models."""
    family = "Qwen" if "Qwen" in row else "Mixtral"
    lines = preview(Suite.load("moe-i2-table1"), tmp_path, only=row)
    line = next(line for line in lines if f"  {row}  " in line and family in line)
    assert f"expert parameters {MINUS}{share} %" in line


TABLES = sorted(name for name in installed() if name.startswith(("moe-i2", "eep", "c-moe")))


@pytest.mark.long
@pytest.mark.parametrize("name", TABLES)
def test_no_recipe_of_a_paper_is_refused(name: str, no_network: None, tmp_path: Path) -> None:
    """Every cell of every table, on full-size models."""
    table = Suite.load(name)
    lines = list(preview(table, tmp_path))
    assert len(lines) == len(cells(table, offline=True)) > 1
    assert [line for line in lines if " refuses: " in line] == []


OWN = """
import sys

from harness.method import Method


class Own(Method):
    name = "own"
    reference = "none"


class Raises(Own):
    def compress(self, model, calibration):
        yield from ()
        raise IndexError("no such thing")


class Exits(Own):
    def compress(self, model, calibration):
        yield from ()
        sys.exit(1)


class Three(Own):
    def compress(self, model, calibration):
        yield 3


class Empty(Own):
    def compress(self, model, calibration):
        pass
"""
FAULTS = {
    "Raises": "fails: IndexError: no such thing (line 15).",
    "Exits": "fails: SystemExit: 1 (line 21).",
    "Three": "fails: method 'own' yields int, which is neither an edit nor a note.",
    "Empty": "fails: method 'own': its 'compress' yields nothing; it should be a generator",
}


def test_a_method_that_fails_is_a_line_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    rows = "".join(
        f'[[recipes]]\nname = "{kind}"\nsteps = [{{method = "{tmp_path}/own.py:{kind}"}}]\n'
        for kind in FAULTS
    )
    (tmp_path / "mine.toml").write_text(f'models = ["reference/mixtral"]\n{rows}')
    _, *lines = preview(Suite.load(tmp_path / "mine.toml"), tmp_path)
    for line, fault in zip(lines, FAULTS.values(), strict=True):
        assert fault in line


@pytest.mark.parametrize("statement", ["import sys; sys.exit(3)", "raise BaseException", "1 / 0"])
def test_a_method_file_that_ends_the_process_is_a_sentence(tmp_path: Path, statement: str) -> None:
    (tmp_path / "own.py").write_text(statement)
    step = f'steps = [{{method = "{tmp_path}/own.py:Own"}}]'
    text = f'models = ["reference/mixtral"]\n[[recipes]]\nname = "x"\n{step}\n'
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UserError, match=r"mine\.toml:4: method file .* cannot be imported: .*line"):
        list(preview(Suite.load(tmp_path / "mine.toml"), tmp_path))
