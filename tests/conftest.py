"""Small random models of all families, and calibrations for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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

from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from harness.model import deepseek
from harness.model.families import FAMILIES
from harness.model.source import build_on_meta
from harness.model.view import MoEModel

deepseek.register()

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


@pytest.fixture(scope="session")
def configs() -> dict[str, Callable[[], PretrainedConfig]]:
    return CONFIGS


@pytest.fixture(params=["deepseek_v2", "mixtral", "qwen2_moe"])
def family(request: pytest.FixtureRequest) -> str:
    """The families that differ in how they route."""
    return str(request.param)


@pytest.fixture(scope="session")
def random_lm() -> Callable[..., PreTrainedModel]:
    def make(family: str, seed: int = 0) -> PreTrainedModel:
        generator = torch.Generator().manual_seed(seed)
        auto: Any = AutoModelForCausalLM  # its methods have no annotations
        lm: PreTrainedModel = auto.from_config(CONFIGS[family](), dtype=torch.float32)
        with torch.no_grad():
            for parameter in lm.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.3, generator=generator)
        if not FAMILIES[family].dense:
            lm.set_experts_implementation("grouped_mm")
        lm.train(False)
        return lm

    return make


@pytest.fixture(scope="session")
def tiny(random_lm: Callable[..., PreTrainedModel]) -> Callable[..., MoEModel]:
    def build(family: str, *, meta: bool = False) -> MoEModel:
        if meta:
            lm = build_on_meta(CONFIGS[family](), experts="grouped_mm", attention="sdpa")
            return MoEModel(lm, ref=family, sha256="meta")
        return MoEModel(random_lm(family), ref=family, sha256=family)

    return build


@pytest.fixture
def calibration(tmp_path: Path) -> Callable[..., Calibration]:
    def build(*, padded: bool = False, cache: bool = False, sequences: int = 6) -> Calibration:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(0, VOCABULARY, (sequences, 12), generator=generator)
        mask = torch.ones_like(ids, dtype=torch.bool)
        if padded:
            mask[1, 7:] = False
            mask[4, 3:] = False
        tokens = Tokens(ids, mask, "made up", 0, "random ids")
        return Calibration(tokens, batch_size=4, cache=tmp_path / "cache" if cache else None)

    return build
