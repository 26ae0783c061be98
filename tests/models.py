"""Small random models of all families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import (
    DeepseekV2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OlmoeConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from harness.model.families import deepseek

VOCABULARY = 53
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "num_experts_per_tok": 3,
}
_ROUTED: dict[str, Any] = {
    **_SHAPE,
    "intermediate_size": 24,
    "moe_intermediate_size": 12,
    "num_experts": 6,
}
_DENSE: dict[str, Any] = {
    **{name: value for name, value in _SHAPE.items() if name != "num_experts_per_tok"},
    "num_attention_heads": 4,
    "intermediate_size": 24,
}
_QWEN3: dict[str, Any] = {**_ROUTED, "norm_topk_prob": True, "head_dim": 8, "mlp_only_layers": [1]}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "mixtral": lambda: MixtralConfig(
        **{**_SHAPE, "num_experts_per_tok": 2}, intermediate_size=24, num_local_experts=6
    ),
    "qwen2_moe": lambda: Qwen2MoeConfig(
        **_ROUTED,
        shared_expert_intermediate_size=20,
        norm_topk_prob=False,
        tie_word_embeddings=True,
    ),
    "qwen3_moe": lambda: Qwen3MoeConfig(**_QWEN3),
    "olmoe": lambda: OlmoeConfig(**_SHAPE, intermediate_size=12, num_experts=6),
    "deepseek_v2": lambda: DeepseekV2Config(
        **_SHAPE,
        intermediate_size=24,
        moe_intermediate_size=12,
        n_routed_experts=6,
        n_shared_experts=2,
        first_k_dense_replace=1,
        topk_method="greedy",
        n_group=1,
        topk_group=1,
        kv_lora_rank=8,
        q_lora_rank=None,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
        routed_scaling_factor=1.7,
    ),
    "deepseek": lambda: deepseek.DeepseekConfig(
        **_SHAPE, intermediate_size=24, moe_intermediate_size=12, n_routed_experts=6
    ),
    "mistral": lambda: MistralConfig(**_DENSE, sliding_window=9),
    "llama": lambda: LlamaConfig(**_DENSE),
    "qwen2": lambda: Qwen2Config(**_DENSE, tie_word_embeddings=True),
}
