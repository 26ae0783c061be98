from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    DeepseekV2Config,
    MixtralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2MoeConfig,
)

from harness.measure.analytic import analytic_macs
from harness.measure.flops import UncountedOperationError, counted_macs, measure_flops
from harness.measure.meta import meta_copy
from harness.measure.size import measure_size
from harness.model.view import MoEModel

Build = Callable[..., PreTrainedModel]

FAMILIES = (
    "mixtral",
    "qwen2_moe",
    "qwen3_moe",
    "olmoe",
    "deepseek_v2",
    "deepseek_v2_q_lora",
)
TOKENS = 11

FULL_SIZE: dict[str, tuple[Callable[[], PretrainedConfig], float, float]] = {
    "Mixtral-8x7B": (
        lambda: MixtralConfig(
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            num_local_experts=8,
            num_experts_per_tok=2,
        ),
        46.703,
        27.2086,
    ),
    "Qwen1.5-MoE-A2.7B": (
        lambda: Qwen2MoeConfig(
            vocab_size=151936,
            hidden_size=2048,
            intermediate_size=5632,
            num_hidden_layers=24,
            num_attention_heads=16,
            num_key_value_heads=16,
            moe_intermediate_size=1408,
            shared_expert_intermediate_size=5632,
            num_experts=60,
            num_experts_per_tok=4,
            decoder_sparse_step=1,
        ),
        14.316,
        5.2820,
    ),
    "DeepSeek-V2-Lite": (
        lambda: DeepseekV2Config(
            vocab_size=102400,
            hidden_size=2048,
            intermediate_size=10944,
            moe_intermediate_size=1408,
            num_hidden_layers=27,
            num_attention_heads=16,
            num_key_value_heads=16,
            n_shared_experts=2,
            n_routed_experts=64,
            num_experts_per_tok=6,
            kv_lora_rank=512,
            q_lora_rank=None,
            qk_rope_head_dim=64,
            qk_nope_head_dim=128,
            v_head_dim=128,
            first_k_dense_replace=1,
            topk_method="greedy",
            n_group=1,
            topk_group=1,
        ),
        15.706,
        5.6001,
    ),
}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("experts", ["grouped_mm", "batched_mm", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_really_runs_is_counted_as_the_formula_says(
    tiny: Build, family: str, experts: str, attention: str
) -> None:
    lm = tiny(family, experts_implementation=experts, attn_implementation=attention)
    assert counted_macs(lm, TOKENS).total() == analytic_macs(lm, TOKENS).total() > 0


@pytest.mark.parametrize(("experts", "attention"), [("grouped_mm", "sdpa"), ("eager", "eager")])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_copy_without_weights_is_counted_as_the_formula_says(
    tiny: Build, family: str, experts: str, attention: str
) -> None:
    lm = tiny(family, experts_implementation=experts, attn_implementation=attention)
    flops = measure_flops(lm, TOKENS)
    assert flops.macs == flops.analytic_macs == analytic_macs(lm, TOKENS).total()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_compressed_model_is_counted_as_the_formula_says(
    tiny: Build, compressed: Build, family: str
) -> None:
    lm = compressed(family)
    flops = measure_flops(lm, TOKENS)
    assert flops.macs == flops.analytic_macs == counted_macs(lm, TOKENS).total()
    assert flops.macs < measure_flops(tiny(family), TOKENS).macs


def test_the_formula_by_hand(tiny: Build) -> None:
    per_block = {
        "attention": 32 * (32 + 16 + 16 + 32),  # q, k, v, o
        "router": 6 * 32,
        "experts": 2 * (48 * 32 + 32 * 24),
    }
    expected = {part: 3 * TOKENS * weights for part, weights in per_block.items()}
    expected |= {"scores": 3 * TOKENS * TOKENS * 4 * (8 + 8), "head": TOKENS * 61 * 32}
    assert +analytic_macs(tiny("mixtral"), TOKENS) == expected


def test_the_parts_of_shared_experts_and_dense_blocks_by_hand(tiny: Build) -> None:
    macs = analytic_macs(tiny("qwen2_moe"), TOKENS)
    assert macs["shared"] == 2 * TOKENS * (3 * 32 * 48 + 32)  # with the gate
    assert macs["dense"] == TOKENS * 3 * 32 * 40
    macs = analytic_macs(tiny("deepseek_v2_q_lora"), TOKENS)
    projections = 32 * 14 + 14 * 4 * 20 + 32 * (20 + 8) + 20 * 4 * (12 + 10) + 4 * 10 * 32
    assert macs["attention"] == 3 * TOKENS * projections
    assert macs["scores"] == 3 * TOKENS * TOKENS * 4 * ((12 + 8) + 10)


def test_fewer_experts_than_top_k_cost_less(compressed: Build) -> None:
    lm = compressed("mixtral")  # left: one MoE layer with a single expert, one without any
    assert analytic_macs(lm, TOKENS)["experts"] == TOKENS * (48 * 32 + 32 * 24)


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_models(name: str) -> None:
    config, billions, terra = FULL_SIZE[name]
    with torch.device("meta"):
        lm: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config(), dtype=torch.bfloat16
        )
    assert sum(p.numel() for p in lm.parameters()) / 1e9 == pytest.approx(billions, abs=5e-4)
    flops = measure_flops(lm, 2048)
    assert flops.macs == flops.analytic_macs
    assert flops.macs / 1e12 == pytest.approx(terra, abs=5e-5)


def test_models_opened_by_the_harness_are_measured_the_same(tiny: Build) -> None:
    lm = tiny("qwen2_moe")
    flops, size = measure_flops(lm, TOKENS), measure_size(lm, None)
    model = MoEModel(lm, ref="tiny", sha256="0")
    assert (measure_flops(model, TOKENS), measure_size(model, None)) == (flops, size)


def test_the_model_is_left_as_it_was(tiny: Build) -> None:
    lm = tiny("deepseek_v2")
    before = {name: (id(p), p.device.type, p.dtype) for name, p in lm.named_parameters()}
    config = lm.config.to_dict(), lm.config._experts_implementation
    ids = torch.arange(8)[None]  # [1, 8]
    with torch.no_grad():
        logits = lm(ids).logits
        measure_flops(lm, TOKENS)
        assert torch.equal(lm(ids).logits, logits)
    assert {name: (id(p), p.device.type, p.dtype) for name, p in lm.named_parameters()} == before
    assert (lm.config.to_dict(), lm.config._experts_implementation) == config


def test_the_copy_holds_no_weights(tiny: Build) -> None:
    lm = tiny("mixtral")
    lm.model.layers[0].extra = torch.ones(3)  # a tensor that is neither parameter nor buffer
    blank = meta_copy(lm)
    tensors = [*blank.parameters(), *blank.buffers(), blank.model.layers[0].extra]
    assert all(tensor.is_meta for tensor in tensors)
    assert [tuple(p.shape) for p in blank.parameters()] == [tuple(p.shape) for p in lm.parameters()]


def test_tied_weights_stay_tied_in_the_copy(tiny: Build) -> None:
    blank: Any = meta_copy(tiny("mixtral", config={"tie_word_embeddings": True}))
    assert blank.lm_head.weight is blank.model.embed_tokens.weight


class Foreign(nn.Module):
    """An operation that fvcore has never heard of."""

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.baddbmm(hidden, hidden.mT @ hidden, hidden.mT).mT


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        return hidden * 2


class Python(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = Product.apply(hidden)  # type: ignore[no-untyped-call]
        return out


@pytest.mark.parametrize(("module", "name"), [(Foreign(), "aten::baddbmm"), (Python(), "Product")])
def test_an_operation_that_nobody_counts_is_refused(
    tiny: Build, module: nn.Module, name: str
) -> None:
    lm = tiny("mixtral")
    lm.model.layers[1].mlp = module
    with pytest.raises(UncountedOperationError, match=f"{name}.*OP_HANDLES"):
        measure_flops(lm, 32)
