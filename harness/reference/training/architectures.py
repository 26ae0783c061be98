"""The three architectures of the reference models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from harness.reference.training.word_tokenizer import BOS, CONTEXT, EOS, PAD

HIDDEN = 96
LAYERS = {"mixtral": 4, "qwen2-moe": 5, "deepseek-v2": 5}


def build(name: str, vocabulary: int) -> PreTrainedModel:
    """A freshly initialised model of one architecture (torch's global seed decides)."""
    return _BUILDERS[name](_common(vocabulary) | {"num_hidden_layers": LAYERS[name]})


def _common(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
        "initializer_range": 0.05,
    }


def _mixtral(common: dict[str, Any]) -> PreTrainedModel:
    config = MixtralConfig(
        **common,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=24,
        num_local_experts=8,
        num_experts_per_tok=2,
        sliding_window=None,
    )
    return MixtralForCausalLM(config)


def _qwen2_moe(common: dict[str, Any]) -> PreTrainedModel:
    config = Qwen2MoeConfig(
        **(common | {"head_dim": 32}),
        num_key_value_heads=2,
        intermediate_size=96,
        moe_intermediate_size=24,
        shared_expert_intermediate_size=24,
        num_experts=16,
        num_experts_per_tok=4,
        norm_topk_prob=False,
    )
    return Qwen2MoeForCausalLM(config)


def _deepseek_v2(common: dict[str, Any]) -> PreTrainedModel:
    config = DeepseekV2Config(
        **(common | {"rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}),
        num_key_value_heads=4,
        intermediate_size=48,
        moe_intermediate_size=16,
        n_routed_experts=16,
        n_shared_experts=1,
        num_experts_per_tok=4,
        first_k_dense_replace=1,
        q_lora_rank=None,
        kv_lora_rank=96,
        qk_nope_head_dim=32,
        qk_rope_head_dim=32,
        v_head_dim=32,
        topk_method="greedy",
        n_group=1,
        topk_group=1,
        norm_topk_prob=False,
        routed_scaling_factor=1.0,
    )
    return DeepseekV2ForCausalLM(config)


_BUILDERS: dict[str, Callable[[dict[str, Any]], PreTrainedModel]] = {
    "mixtral": _mixtral,
    "qwen2-moe": _qwen2_moe,
    "deepseek-v2": _deepseek_v2,
}
ARCHITECTURES = tuple(_BUILDERS)
