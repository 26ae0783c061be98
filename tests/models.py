"""Tiny models of all families, the one place where tests make them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OlmoeConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from harness import reference
from harness.model.families import deepseek
from harness.reference.training.word_tokenizer import split, tokenizer

VOCABULARY = 53
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_DENSE: dict[str, Any] = {**_SHAPE, "num_attention_heads": 4, "intermediate_size": 24}
_SPARSE: dict[str, Any] = {**_SHAPE, "num_experts_per_tok": 3}
_QWEN: dict[str, Any] = {
    **_SPARSE,
    "intermediate_size": 24,
    "moe_intermediate_size": 12,
    "num_experts": 6,
}
_DEEPSEEK: dict[str, Any] = {
    **{field: size for field, size in _SPARSE.items() if field != "num_key_value_heads"},
    "intermediate_size": 24,
    "moe_intermediate_size": 12,
    "n_routed_experts": 6,
}
_FAMILIES: Mapping[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "mixtral": (
        MixtralConfig,
        {**_SHAPE, "num_experts_per_tok": 2, "intermediate_size": 24, "num_local_experts": 6},
    ),
    "qwen2_moe": (
        Qwen2MoeConfig,
        {
            **_QWEN,
            "shared_expert_intermediate_size": 20,
            "norm_topk_prob": False,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3_moe": (
        Qwen3MoeConfig,
        {**_QWEN, "norm_topk_prob": True, "head_dim": 8, "mlp_only_layers": [1]},
    ),
    "olmoe": (OlmoeConfig, {**_SPARSE, "intermediate_size": 12, "num_experts": 6}),
    "deepseek_v2": (
        DeepseekV2Config,
        {
            **_DEEPSEEK,
            "n_shared_experts": 2,
            "first_k_dense_replace": 1,
            "topk_method": "greedy",
            "n_group": 1,
            "topk_group": 1,
            "kv_lora_rank": 8,
            "q_lora_rank": None,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "routed_scaling_factor": 1.7,
        },
    ),
    "deepseek": (deepseek.DeepseekConfig, _DEEPSEEK),
    "mistral": (MistralConfig, {**_DENSE, "sliding_window": 9}),
    "llama": (LlamaConfig, _DENSE),
    "qwen2": (Qwen2Config, {**_DENSE, "tie_word_embeddings": True}),
}


def tiny_config(family: str, **changes: Any) -> PretrainedConfig:
    """The configuration of a family's tiny model, with fields changed."""
    kind, fields = _FAMILIES[family]
    return kind(**{**fields, **changes})


def from_config(config: PretrainedConfig, **options: Any) -> PreTrainedModel:
    """A model with the weights that transformers draws, ready to run; options of `from_config`."""
    auto: Any = AutoModelForCausalLM  # its methods have no annotations
    lm: PreTrainedModel = auto.from_config(config, **options)
    lm.train(False)
    return lm


def draw_weights(lm: PreTrainedModel, seed: int) -> None:
    """Draw every matrix from a normal distribution wide enough that a mistake shows in logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3, generator=generator)


def save_checkpoint(folder: Path) -> Path:
    """Save a Mixtral of two blocks with random weights, and a tokenizer for the embedded data."""
    text = (reference.DATA / "calibration.jsonl").read_text(encoding="utf-8")
    words = tokenizer(sorted({word for word in split(text) if word.isalpha()}))
    config = tiny_config(
        "mixtral",
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_key_value_heads=1,
        num_local_experts=4,
        max_position_embeddings=256,
    )
    torch.manual_seed(0)
    from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
