"""Small random models of all five families, and checkpoints of them that transformers wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
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

from harness.model.view import MoEModel

_SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
_ROUTED: dict[str, Any] = {
    **_SHAPE,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "norm_topk_prob": False,
    "moe_intermediate_size": 24,
    "intermediate_size": 48,
}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "mixtral": lambda: MixtralConfig(
        **_SHAPE, intermediate_size=48, num_local_experts=8, num_experts_per_tok=2
    ),
    "qwen2_moe": lambda: Qwen2MoeConfig(
        **_ROUTED, shared_expert_intermediate_size=40, tie_word_embeddings=True
    ),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **{**_ROUTED, "norm_topk_prob": True}, head_dim=8, mlp_only_layers=[1]
    ),
    "olmoe": lambda: OlmoeConfig(
        **_SHAPE, intermediate_size=24, num_experts=8, num_experts_per_tok=3
    ),
    "deepseek_v2": lambda: DeepseekV2Config(
        **{**_SHAPE, "num_key_value_heads": 4},
        intermediate_size=48,
        moe_intermediate_size=24,
        n_routed_experts=8,
        n_shared_experts=2,
        num_experts_per_tok=3,
        first_k_dense_replace=1,
        topk_method="greedy",
        n_group=1,
        topk_group=1,
        kv_lora_rank=16,
        q_lora_rank=None,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        routed_scaling_factor=1.5,
    ),
}


def make(family: str, seed: int = 0) -> PreTrainedModel:
    generator = torch.Generator().manual_seed(seed)
    lm: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIGS[family](), dtype=torch.float32)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25, generator=generator)
    return lm.eval()


@pytest.fixture
def random_lm() -> Callable[..., PreTrainedModel]:
    return make


@pytest.fixture
def configs() -> dict[str, Callable[[], PretrainedConfig]]:
    return CONFIGS


@pytest.fixture(params=sorted(CONFIGS))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tiny() -> Callable[..., MoEModel]:
    def build(family: str, seed: int = 0) -> MoEModel:
        lm = make(family, seed)
        lm.set_experts_implementation("grouped_mm")
        return MoEModel(lm, ref=f"tiny/{family}", sha256=f"{family}-{seed}")

    return build


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """A sharded safetensors checkpoint as transformers writes it, one expert a tensor."""

    def write(family: str, shard: str = "60KB") -> Path:
        folder = tmp_path / family
        make(family).save_pretrained(folder, max_shard_size=shard)
        return folder

    return write


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 97, (2, 24), generator=torch.Generator().manual_seed(5))
