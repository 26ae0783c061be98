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
    PretrainedConfig,
    Qwen2MoeConfig,
)

from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from harness.model.view import MoEModel

_SHAPE: dict[str, Any] = {
    "vocab_size": 53,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "mixtral": lambda: MixtralConfig(
        **_SHAPE, intermediate_size=24, num_local_experts=6, num_experts_per_tok=2
    ),
    "qwen2_moe": lambda: Qwen2MoeConfig(
        **_SHAPE,
        intermediate_size=24,
        moe_intermediate_size=12,
        shared_expert_intermediate_size=20,
        num_experts=6,
        num_experts_per_tok=3,
        norm_topk_prob=False,
    ),
    "deepseek_v2": lambda: DeepseekV2Config(
        **_SHAPE,
        intermediate_size=24,
        moe_intermediate_size=12,
        n_routed_experts=6,
        n_shared_experts=1,
        num_experts_per_tok=3,
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
}


@pytest.fixture(params=sorted(_CONFIGS))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tiny() -> Callable[..., MoEModel]:
    def build(family: str, *, meta: bool = False) -> MoEModel:
        generator = torch.Generator().manual_seed(3)
        config = _CONFIGS[family]()
        if meta:
            with torch.device("meta"):
                return MoEModel(AutoModelForCausalLM.from_config(config), ref=family, sha256="m")
        lm = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in lm.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.3, generator=generator)
        return MoEModel(lm, ref=family, sha256=family)

    return build


@pytest.fixture
def calibration(tmp_path: Path) -> Callable[..., Calibration]:
    def build(*, padded: bool = False, cache: bool = False, sequences: int = 6) -> Calibration:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(0, 53, (sequences, 12), generator=generator)
        mask = torch.ones_like(ids, dtype=torch.bool)
        if padded:
            mask[1, 7:] = False
            mask[4, 3:] = False
        tokens = Tokens(ids, mask, "made up", 0, "random ids")
        return Calibration(tokens, batch_size=4, cache=tmp_path / "cache" if cache else None)

    return build
