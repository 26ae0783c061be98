"""Tiny and full-size models of the families, and the edits that a compressed model may carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    DeepseekV2Config,
    MixtralConfig,
    OlmoeConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
MLA: dict[str, Any] = {
    **SHAPE,
    "num_key_value_heads": 4,
    "intermediate_size": 40,
    "moe_intermediate_size": 24,
    "n_routed_experts": 6,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 20,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 10,
    "topk_method": "greedy",
    "n_group": 1,
    "topk_group": 1,
}
TINY: dict[str, tuple[Callable[..., PretrainedConfig], dict[str, Any]]] = {
    "mixtral": (
        MixtralConfig,
        {**SHAPE, "intermediate_size": 24, "num_local_experts": 6, "num_experts_per_tok": 2},
    ),
    "qwen2_moe": (
        Qwen2MoeConfig,
        {
            **SHAPE,
            "intermediate_size": 40,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 48,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "mlp_only_layers": [1],
        },
    ),
    "qwen3_moe": (
        Qwen3MoeConfig,
        {
            **SHAPE,
            "head_dim": 12,
            "intermediate_size": 40,
            "moe_intermediate_size": 24,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "mlp_only_layers": [0],
        },
    ),
    "olmoe": (
        OlmoeConfig,
        {**SHAPE, "intermediate_size": 24, "num_experts": 6, "num_experts_per_tok": 2},
    ),
    "deepseek_v2": (DeepseekV2Config, {**MLA, "q_lora_rank": None}),
    "deepseek_v2_q_lora": (DeepseekV2Config, {**MLA, "q_lora_rank": 14}),
}


@pytest.fixture
def tiny() -> Callable[..., PreTrainedModel]:
    """Builds a tiny random model by name: changes to its `config`, options of `from_config`."""
    return build


def build(name: str, *, config: dict[str, Any] | None = None, **options: Any) -> PreTrainedModel:
    kind, values = TINY[name]
    torch.manual_seed(0)
    filled = kind(**(values | (config or {})))
    lm: Any = AutoModelForCausalLM.from_config(filled, **options)  # type: ignore[no-untyped-call]
    # Random weights are small: larger ones make a wrong mask or cache show in the logits.
    for parameter in lm.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)
    built: PreTrainedModel = lm.eval()
    return built


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
