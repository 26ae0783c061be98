"""Small models whose matrices fill whole groups and words, and their quantization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model.edits import QuantizeWeights
from harness.model.families.family import FAMILIES
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.view import MoEModel
from tests.models import from_config, tiny_config

ROUTED = ("deepseek", "deepseek_v2", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe")
DENSE = ("llama", "mistral", "qwen2")
_WIDE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 32,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "num_hidden_layers": 3,
}


@pytest.fixture
def wide() -> Callable[..., MoEModel]:
    """A random model of any family, 64 wide, experts and MLPs 32."""

    def build(family: str, dtype: torch.dtype = torch.bfloat16) -> MoEModel:
        config = tiny_config(family)
        for name, value in _WIDE.items():
            if hasattr(config, name):
                setattr(config, name, value)
        if hasattr(config, "layer_types"):
            config.layer_types = config.layer_types[: config.num_hidden_layers]
        lm = from_config(config, dtype=dtype)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in lm.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.1, generator=generator)
        if not FAMILIES[family].dense:
            lm.set_experts_implementation("grouped_mm")
        return MoEModel(lm, ref=family, sha256=family)

    return build


def nearest(weight: Tensor, scheme: Scheme) -> Quantized:
    """Codes nearest to the weights, on a grid over each group."""
    width = scheme.group or weight.shape[1]
    groups = weight.float().view(len(weight), -1, width)  # [outputs, groups, width]
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    if scheme.symmetric:
        high = torch.maximum(high, -low)
        low = -high
    scales = ((high - low) / (scheme.levels - 1)).to(weight.dtype)
    middle = torch.full_like(low, scheme.levels // 2)
    zeros = middle if scheme.symmetric else (-low / scales.float()).round()
    zeros = zeros.clamp(0, scheme.levels - 1)
    codes = (groups / scales.float()[..., None]).round() + zeros[..., None]
    codes = codes.clamp(0, scheme.levels - 1).flatten(1).to(torch.uint8)
    return Quantized.of(codes, scales, None if scheme.symmetric else zeros.to(torch.uint8), scheme)


@pytest.fixture
def quantize() -> Callable[..., None]:
    """Round matrices of some parts, in all blocks or some."""

    def apply(
        model: MoEModel,
        scheme: Scheme,
        parts: tuple[str, ...] = ("experts", "shared", "dense", "attention"),
        only: Callable[[int, str], bool] = lambda block, name: True,
    ) -> None:
        for block in model.blocks:
            chosen = {
                matrix.name: nearest(block.weight(matrix), scheme)
                for matrix in block.matrices()
                if matrix.part in parts and only(block.index, matrix.name)
            }
            if chosen:
                model.apply(QuantizeWeights.of(block.index, chosen))

    return apply
