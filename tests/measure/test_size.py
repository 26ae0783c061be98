from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from harness.measure.meta import meta_copy
from harness.measure.size import measure_size

Build = Callable[..., PreTrainedModel]

EXPERT = 3 * 24 * 32
"""Weights of one expert of every tiny model."""


def test_a_model_by_hand(tiny: Build) -> None:
    block = 2 * 32 * 32 + 2 * 32 * 16 + 2 * 32 + 6 * 32 + 6 * EXPERT
    parameters = 3 * block + 2 * 61 * 32 + 32
    size = measure_size(tiny("mixtral"), None)
    assert size.parameters == parameters
    assert size.expert_parameters == 3 * 6 * EXPERT
    assert size.active_parameters == parameters - 3 * 4 * EXPERT
    assert size.artifact_bytes is None


def test_uneven_dropped_and_missing_layers(compressed: Build) -> None:
    # Left: a block with 1 expert of which 1 is chosen, and a block whose MoE layer is gone.
    block = 2 * 32 * 32 + 2 * 32 * 16 + 32
    parameters = 2 * block + 32 + 32 + EXPERT + 2 * 61 * 32 + 32
    size = measure_size(compressed("mixtral"), None)
    assert size.parameters == size.active_parameters == parameters
    assert size.expert_parameters == EXPERT


@pytest.mark.parametrize(("family", "moe_layers", "idle"), [("qwen2_moe", 2, 3), ("olmoe", 3, 4)])
def test_only_routed_experts_are_idle(tiny: Build, family: str, moe_layers: int, idle: int) -> None:
    size = measure_size(tiny(family), None)
    assert size.parameters - size.active_parameters == moe_layers * idle * EXPERT


def test_no_more_experts_are_active_than_there_are(tiny: Build) -> None:
    lm = tiny("mixtral")
    for layer in lm.model.layers:
        layer.mlp.gate.top_k = 9
    size = measure_size(lm, None)
    assert size.active_parameters == size.parameters


def test_tied_embeddings_count_once(tiny: Build) -> None:
    apart = measure_size(tiny("mixtral"), None)
    tied = measure_size(tiny("mixtral", config={"tie_word_embeddings": True}), None)
    assert apart.parameters - tied.parameters == 61 * 32
    assert apart.resident_bytes - tied.resident_bytes == 61 * 32 * 4


def test_zeros_are_counted_apart(tiny: Build) -> None:
    lm = tiny("mixtral")
    before = measure_size(lm, None)
    lm.model.layers[0].mlp.experts.down_proj.data[2] = 0
    after = measure_size(lm, None)
    assert before.nonzero_parameters is not None
    assert after.nonzero_parameters == before.nonzero_parameters - 32 * 24
    assert after.parameters == before.parameters


def test_a_slice_keeps_its_whole_storage(tiny: Build) -> None:
    lm = tiny("mixtral")
    before = measure_size(lm, None).resident_bytes
    experts = lm.model.layers[0].mlp.experts
    experts.down_proj = nn.Parameter(experts.down_proj.detach()[:2])
    assert measure_size(lm, None).resident_bytes == before
    experts.down_proj = nn.Parameter(experts.down_proj.detach().clone())
    assert measure_size(lm, None).resident_bytes == before - 4 * 32 * 24 * 4


def test_shared_storage_is_resident_once(tiny: Build) -> None:
    lm = tiny("mixtral")
    before = measure_size(lm, None)
    first, second = lm.model.layers[0].mlp.experts, lm.model.layers[1].mlp.experts
    second.down_proj = nn.Parameter(first.down_proj.detach())
    after = measure_size(lm, None)
    assert after.parameters == before.parameters
    assert before.resident_bytes - after.resident_bytes == 6 * 32 * 24 * 4


def test_a_dry_run_knows_all_but_the_values(compressed: Build) -> None:
    lm = compressed("qwen2_moe")
    real, dry = measure_size(lm, None), measure_size(meta_copy(lm), None)
    assert dry.nonzero_parameters is None
    counts = {"parameters", "expert_parameters", "active_parameters"}
    assert dry.model_dump(include=counts) == real.model_dump(include=counts)


def test_artifact_bytes_are_those_of_the_files_that_are_read(tiny: Build, tmp_path: Path) -> None:
    lm = tiny("mixtral")
    sizes = {}
    for number, name in enumerate(("a", "b", "consolidated", "model")):
        file = tmp_path / f"{name}.safetensors"
        save_file({name: torch.zeros(10**number)}, file)
        sizes[name] = file.stat().st_size
    where = {"x": "a.safetensors", "y": "b.safetensors", "z": "b.safetensors"}
    index = {"metadata": {}, "weight_map": where}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert measure_size(lm, tmp_path).artifact_bytes == sizes["model"]
    (tmp_path / "model.safetensors").unlink()
    assert measure_size(lm, tmp_path).artifact_bytes == sizes["a"] + sizes["b"]
