"""No number depends on what a configuration says of training, and nothing of it is lost."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.export.plain import write_plain
from harness.model.families.family import FAMILIES
from harness.model.families.switches import SWITCHES, switch_off
from harness.model.files.artifact import save
from harness.model.files.opening import open_meta, open_model
from harness.model.view import MoEModel
from tests.models import tiny_config

STATED: dict[str, object] = {
    "attention_dropout": 0.25,
    "gradient_checkpointing": True,
    "hidden_dropout": 0.5,
    "label_smoothing": 0.1,
    "loss_type": "ForMaskedLM",
    "output_attentions": True,
    "output_hidden_states": True,
    "output_router_logits": True,
    "pretraining_tp": 2,
    "problem_type": "regression",
    "return_dict": False,
    "router_aux_loss_coef": 0.02,
    "router_jitter_noise": 0.1,
    "torchscript": True,
    "use_cache": False,
}
TRAINING = re.compile(r"dropout|drop$|output_(?!size)|aux_loss|jitter|_loss|use_cache|return_dict")
NOT_READ = {"aux_loss_alpha", "seq_aux"}
"""Of DeepSeek's training; no class of ours or of transformers' reads them."""


def says(folder: Path, values: dict[str, object]) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def logits(model: MoEModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        out: Any = model.lm(ids)
    result: Tensor = out.logits
    return result


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_what_is_said_of_training_changes_no_logit_and_is_kept(
    name: str, checkpoint: Callable[..., Path], ids: Tensor, tmp_path: Path
) -> None:
    folder = checkpoint(name, shard="1GB")
    wanted = logits(open_model(str(folder)), ids)
    says(folder, STATED)
    model = open_model(str(folder))
    assert torch.equal(logits(model, ids), wanted)
    save(model, tmp_path / "artifact")
    write_plain(model, tmp_path / "export")
    for place in ("artifact", "export"):
        held = json.loads((tmp_path / place / "config.json").read_text())
        defaults = {"return_dict": False}  # which transformers writes no other value of
        assert {field: held.get(field, defaults.get(field)) for field in STATED} == STATED
        assert torch.equal(logits(open_model(str(tmp_path / place)), ids), wanted)
    streamed = open_model(str(folder), streaming=True)
    for one in (streamed, open_meta(str(folder)), open_meta(str(tmp_path / "artifact"))):
        assert all(getattr(one.config, f, value) == value for f, value in SWITCHES.items())
        assert {f: getattr(one.stated_config, f, STATED[f]) for f in STATED} == STATED


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_only_fields_about_training_are_switched_off(name: str) -> None:
    config = tiny_config(name)
    before = config.to_dict()
    fields = {field.name for field in dataclasses.fields(type(config))} | set(before)
    training = {field for field in fields if TRAINING.search(field)} - NOT_READ
    assert training <= set(SWITCHES)
    switch_off(config)
    after = config.to_dict()
    assert {f: after[f] for f in before if f not in SWITCHES} == {
        f: before[f] for f in before if f not in SWITCHES
    }
    assert all(getattr(config, f) == SWITCHES[f] for f in training)
