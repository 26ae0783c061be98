"""A real trained model with its own tokenizer, and mixtures of it, from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.data import DataRoot
from harness.evaluate.perplexity import perplexity
from harness.evaluate.tasks import evaluate_tasks
from harness.model.files.opening import open_model
from harness.plan.cells import resolve
from harness.plan.forms import CalibrationForm
from harness.plan.suite import Step
from harness.records.protocol import Protocol
from harness.run.stages.compressing import Places, compress_to
from tests.evaluate.stock import compare, stock_on
from tests.real.conftest import MIXTURE, NAMES, TASKS

pytestmark = pytest.mark.real

TEXT, LENGTH = "wikitext2-128", 128
STEPS: dict[str, dict[str, Any]] = {
    "rtn": {"group": 64},
    "wanda": {"sparsity": 0.5},
    "magnitude": {"sparsity": 0.5},
}
"""Methods in the order in which the literature has the perplexities of what they leave."""


def test_the_folders_say_that_the_weights_were_four_bits(real_models: Path) -> None:
    for name in NAMES:
        assert "4-bit" in name
        assert "4-bit (Q4_1) before" in (real_models / name / "README.md").read_text("utf-8")
        config = json.loads((real_models / name / "config.json").read_text("utf-8"))
        assert "quantization_config" not in config


@pytest.mark.parametrize("name", NAMES)
def test_perplexity_of_real_lines_is_that_of_a_plain_loop(
    name: str, real_models: Path, real_root: Path
) -> None:
    model = open_model(str(real_models / name))
    result = perplexity(model.lm, model.tokenizer, TEXT, data=DataRoot(real_root))
    assert result.value == pytest.approx(_plain(real_models / name, real_root), rel=1e-6)
    assert result.windows >= 5
    assert 5 < result.value < 500  # it has learned English


def _plain(folder: Path, root: Path) -> float:
    """The perplexity by transformers and torch alone, a window at a time."""
    lm: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    file = root / "Salesforce/wikitext/wikitext-2-raw-v1/test.jsonl"
    lines = [json.loads(line)["text"] for line in file.read_text("utf-8").splitlines()]
    assert len(lines) == 20
    ids = AutoTokenizer.from_pretrained(folder)("\n\n".join(lines), return_tensors="pt").input_ids[
        0
    ]
    losses = []
    for start in range(0, len(ids) - LENGTH + 1, LENGTH):
        window = ids[start : start + LENGTH]
        with torch.no_grad():
            logits = lm(input_ids=window[None]).logits[0, :-1].double()
        chosen = logits.log_softmax(-1)[torch.arange(LENGTH - 1), window[1:]]
        losses.append(-chosen.mean().item())
    return math.exp(sum(losses) / len(losses))


def test_real_items_score_as_in_stock_lm_eval(
    real_models: Path,
    real_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = open_model(str(real_models / MIXTURE))
    tasks = tuple(TASKS)
    ours = evaluate_tasks(model.lm, model.tokenizer, tasks, data=DataRoot(real_root))
    stock = stock_on(real_root, tmp_path_factory.mktemp("datasets"), monkeypatch)
    theirs = stock(model.lm, model.tokenizer, tasks)
    assert len(ours[1]) == 40
    assert compare(ours, theirs, tasks) < 1e-3


def test_methods_leave_a_real_mixture_in_the_order_that_is_known(
    real_models: Path, real_root: Path, calibration_text: Path, tmp_path: Path
) -> None:
    protocol = Protocol(dtype="float32")
    form = CalibrationForm(ref=str(calibration_text), sequences=4, length=128)
    values = [_perplexity(real_models / MIXTURE, real_root)]
    for method, options in STEPS.items():
        steps = resolve([Step(method, options, form)], seed=0)
        out, places = tmp_path / method, Places(real_root, tmp_path / "cache")
        compress_to(
            out, str(real_models / MIXTURE), steps, protocol, places, say=lambda _line: None
        )
        values.append(_perplexity(out, real_root))
    assert values == sorted(values)
    rtn, wanda, magnitude = (value / values[0] for value in values[1:])
    assert 1 < rtn < 1.3
    assert 1.1 < wanda < magnitude / 2


def _perplexity(folder: Path, root: Path) -> float:
    """The perplexity of a model, opened from its folder."""
    model = open_model(str(folder))
    return perplexity(model.lm, model.tokenizer, TEXT, data=DataRoot(root)).value
