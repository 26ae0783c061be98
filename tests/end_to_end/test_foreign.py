"""Checkpoints that are not ours, through the command line: compress, then evaluate."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from harness.cli.app import app

PARITY = Path(__file__).parents[1] / "parity" / "data" / "model"
RECIPE = """steps = [
    { method = "eep", keep = 4 },
    { method = "block-drop", drop = 1 },
    { method = "wanda", pattern = "2:4", targets = ["experts", "attention"] },
]
"""


def moebench(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output + result.stderr
    return result.stdout


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The verbs run in this process, which they set up as their own."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def perplexities(model: Path, data_root: Path) -> dict[str, Any]:
    out = moebench(
        "evaluate", model, "--perplexity", "wikitext2,ptb", "--data-root", data_root, "--json"
    )
    results: dict[str, Any] = json.loads(out)["perplexity"]
    return results


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v2"])
def test_every_family(
    family: str,
    foreign: Callable[[str], Path],
    calibration_text: Path,
    data_root: Path,
    tmp_path: Path,
) -> None:
    folder = foreign(family)
    assert len(list(folder.glob("*.safetensors"))) > 1
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    small = tmp_path / "small"
    moebench(
        *("compress", "--model", folder, "--recipe", recipe, "--out", small),
        *("--calibration", calibration_text, "--sequences", 4, "--length", 64),
    )
    before, after = perplexities(folder, data_root), perplexities(small, data_root)
    for name in ("wikitext2", "ptb"):
        assert before[name]["length"] == 128  # the model's limit, below the protocol's 2048
        # A random model is near the uniform guess, compressed or not.
        assert 0.8 < before[name]["value"] / 512 < 1.6
        assert after[name]["value"] != before[name]["value"]
        assert math.isfinite(after[name]["value"])
    edits = json.loads((small / "edits.json").read_text())
    assert edits["base"]["ref"] == str(folder)
    assert {edit["kind"] for edit in edits["edits"]} == {
        "keep_experts",
        "drop_block",
        "set_weights",
    }


def test_a_real_process(
    tokenizer: PreTrainedTokenizerFast, calibration_text: Path, data_root: Path, tmp_path: Path
) -> None:
    """The console script, on a checkpoint with one tensor per expert from transformers 4.38."""
    model = shutil.copytree(PARITY, tmp_path / "model")
    tokenizer.save_pretrained(model)
    command = [sys.executable, "-m", "harness"]
    compress = [
        *("compress", "--model", model, "--method", "expert-drop", "--set", "keep=4"),
        *("--calibration", calibration_text, "--sequences", 8, "--length", 64),
        *("--out", tmp_path / "small"),
    ]
    done = subprocess.run(
        [*command, *map(str, compress)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    evaluate = ["evaluate", tmp_path / "small", "--perplexity", "ptb", "--data-root", data_root]
    done = subprocess.run(
        [*command, *map(str, evaluate)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ptb" in done.stdout
