"""The MoE layers of a loaded model, read off its module tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from torch import nn
from transformers import PreTrainedModel

from harness.model.layers.experts import Experts
from harness.model.layers.packed import weights

if TYPE_CHECKING:
    from harness.model.view import MoEModel

ROUTERS = ("gate", "router")
"""Names that transformers gives the router inside an MoE layer."""


@dataclass(frozen=True)
class MoELayer:
    """One MoE layer: router, routed experts, and whatever is shared."""

    module: nn.Module
    router: nn.Module
    experts: nn.Module
    """Holds the experts as fused 3-D parameters, expert first."""
    count: int
    """Experts left in this layer."""
    top_k: int
    """Experts per token."""

    @property
    def expert_parameters(self) -> int:
        """Parameters of all routed experts of the layer."""
        return weights(self.experts)

    def macs(self, tokens: int) -> int:
        """Multiply-accumulates of the experts: one per weight and choice, none per bias."""
        choices = tokens * self.top_k
        if isinstance(self.experts, Experts):
            return self.experts.macs(choices)
        one = sum(p.numel() for p in self.experts.parameters() if p.dim() == 3) // self.count
        return choices * one


def loaded(model: MoEModel | PreTrainedModel) -> PreTrainedModel:
    """The transformers model itself."""
    return model if isinstance(model, PreTrainedModel) else model.lm


def decoder_layers(lm: PreTrainedModel) -> list[nn.Module]:
    """The blocks of `lm` that are left, in the order in which they run."""
    return list(cast(nn.ModuleList, lm.base_model.layers))


def moe_layer(module: nn.Module) -> MoELayer | None:
    """`module` as an MoE layer; None when it is none (dense, attention, or dropped)."""
    experts = getattr(module, "experts", None)
    router = next((r for name in ROUTERS if (r := getattr(module, name, None)) is not None), None)
    count = getattr(experts, "num_experts", None)
    if not isinstance(experts, nn.Module) or not isinstance(router, nn.Module) or not count:
        return None
    top_k = getattr(router, "top_k", None) or cast(int, module.top_k)
    # Where the router was preserved or experts were merged, it may choose more rows than experts.
    most = top_k if isinstance(experts, Experts) else min(top_k, count)
    return MoELayer(module, router, experts, count, most)


def moe_layers(module: nn.Module) -> Iterator[MoELayer]:
    """Every MoE layer under `module`, in module order."""
    return (layer for child in module.modules() if (layer := moe_layer(child)) is not None)
