"""Tiny and full-size models of the families, and the edits that a compressed model may carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    PreTrainedModel,
)

from tests.models import from_config, tiny_config

_SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "tie_word_embeddings": False,
}
_MLA = {"kv_lora_rank": 20, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 10}
_CHANGES: dict[str, dict[str, Any]] = {
    "qwen2_moe": {
        "intermediate_size": 40,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 48,
        "mlp_only_layers": [1],
    },
    "qwen3_moe": {"moe_intermediate_size": 24, "mlp_only_layers": [0], "num_experts_per_tok": 2},
    "olmoe": {"intermediate_size": 24, "num_experts_per_tok": 2},
    "deepseek_v2": _MLA,
    "deepseek_v2_q_lora": {**_MLA, "q_lora_rank": 14},
}


@pytest.fixture
def tiny() -> Callable[..., PreTrainedModel]:
    """Builds a tiny random model by name: changes to its `config`, options of `from_config`."""
    return build


def build(name: str, *, config: dict[str, Any] | None = None, **options: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    changes = {**_SHAPE, **_CHANGES.get(name, {}), **(config or {})}
    lm = from_config(tiny_config(name.removesuffix("_q_lora"), **changes), **options)
    # Random weights are small: larger ones make a wrong mask or cache show in the logits.
    for parameter in lm.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)
    return lm


@pytest.fixture
def compressed(tiny: Callable[..., PreTrainedModel]) -> Callable[..., PreTrainedModel]:
    """Builds a tiny model with uneven experts, one MoE layer dropped and block 0 dropped."""

    def make(name: str, **options: Any) -> PreTrainedModel:
        lm = tiny(name, **options)
        moe = [layer for layer in lm.model.layers if hasattr(layer.mlp, "experts")]
        keep_experts(moe[0].mlp, (0, 2, 3, 5))
        keep_experts(moe[1].mlp, (4,))
        if len(moe) > 2:
            moe[2].mlp, moe[2].post_attention_layernorm = Nothing(), nn.Identity()
        drop_block(lm, 0)
        return lm

    return make


class Nothing(nn.Module):
    """What is left of a dropped MoE layer."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(hidden)


def keep_experts(mlp: Any, kept: Sequence[int]) -> None:
    for part, names in ((mlp.experts, ("gate_up_proj", "down_proj")), (mlp.gate, ("weight",))):
        for name in names:
            setattr(part, name, nn.Parameter(getattr(part, name).detach()[list(kept)].clone()))
    for part in (mlp, mlp.gate, mlp.experts):
        if hasattr(part, "num_experts"):
            part.num_experts = len(kept)
        if hasattr(part, "top_k"):
            part.top_k = min(part.top_k, len(kept))


def drop_block(lm: Any, index: int) -> None:
    del lm.model.layers[index]
    lm.config.num_hidden_layers -= 1
    for position, layer in enumerate(lm.model.layers):
        for part in layer.modules():
            if isinstance(getattr(part, "layer_idx", None), int):
                part.layer_idx = position
    for name in ("layer_types", "mlp_layer_types"):
        if isinstance(values := getattr(lm.config, name, None), list):
            setattr(lm.config, name, values[:index] + values[index + 1 :])
