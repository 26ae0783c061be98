"""MoE layers of published shapes with random weights, for the baseline and for the harness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, MixtralConfig, PretrainedConfig, Qwen2MoeConfig

from harness.calibration.observe import Seen
from harness.calibration.statistic import Statistic
from harness.model.view import Block, MoEModel
from tests.benchmarks.baseline import Layer

_COMMON: dict[str, Any] = {
    "vocab_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}


@dataclass(frozen=True)
class Case:
    """One layer and what enters it, as the baseline and as the harness see it.

    Attributes:
        layer: The baseline's.
        whole: [tokens, hidden]: the layer's output with all experts.
        seen: The harness's: one batch in one block.
    """

    layer: Layer
    whole: Tensor
    seen: Seen

    @property
    def experts(self) -> int:
        """Experts of the layer."""
        return self.layer.logits.shape[1]

    def take(self, statistic: Statistic) -> None:
        """Take a statistic on the batch."""
        statistic.start(self.seen.block)
        statistic.update(self.seen)


def mixtral() -> PretrainedConfig:
    """8 experts, top-2, renormalised."""
    return MixtralConfig(
        **_COMMON,
        hidden_size=1024,
        intermediate_size=1792,
        num_local_experts=8,
        num_experts_per_tok=2,
    )


def qwen(*, experts: int = 60, hidden: int = 512, ffn: int = 352) -> PretrainedConfig:
    """60 experts, top-4, not renormalised."""
    return Qwen2MoeConfig(
        **_COMMON,
        hidden_size=hidden,
        intermediate_size=ffn,
        moe_intermediate_size=ffn,
        shared_expert_intermediate_size=8,
        num_experts=experts,
        num_experts_per_tok=4,
        norm_topk_prob=False,
    )


def case(config: PretrainedConfig, *, tokens: int = 4096, seed: int = 0) -> Case:
    """The layer with random weights, and random tokens."""
    generator = torch.Generator().manual_seed(seed)
    auto: Any = AutoModelForCausalLM
    lm = auto.from_config(config, dtype=torch.float32)
    mlp = lm.model.layers[0].mlp
    with torch.no_grad():
        for weight in (mlp.gate.weight, mlp.experts.gate_up_proj, mlp.experts.down_proj):
            weight.normal_(0, weight.shape[-1] ** -0.5, generator=generator)
    model = MoEModel(lm, ref="benchmark", sha256="benchmark")
    block = Block(model, 0)
    x = torch.randn(tokens, mlp.gate.weight.shape[1], generator=generator)
    layer = Layer(
        x=x,
        logits=x @ block.weight("router").T,
        gate_up=mlp.experts.gate_up_proj.detach(),
        down=mlp.experts.down_proj.detach(),
        top_k=block.top_k,
        renormalised=model.family.renormalises(model.config),
    )
    every = torch.ones(len(block.experts), dtype=torch.bool)
    whole = layer.run(every)
    weights, index = layer.route(every)
    captured = {"x": x, "y": whole, "logits": layer.logits, "weights": weights, "index": index}
    return Case(layer, whole, Seen(block, 0, captured, None))
