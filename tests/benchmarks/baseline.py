"""The straightforward way: one run of the MoE layer per candidate, with a loop over its experts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """An MoE layer and what enters it.

    Attributes:
        x: [tokens, hidden].
        logits: [tokens, experts].
        gate_up: [experts, 2 ffn, hidden].
        down: [experts, hidden, ffn].
        top_k: Experts per token.
        renormalised: Whether the chosen weights are divided by their sum.
    """

    x: Tensor
    logits: Tensor
    gate_up: Tensor
    down: Tensor
    top_k: int
    renormalised: bool

    def route(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and numbers of the experts chosen among those kept, [tokens, k] each."""
        logits = self.logits.masked_fill(~kept, -torch.inf)
        weights, chosen = logits.softmax(-1).topk(self.top_k, -1)
        return weights / weights.sum(-1, keepdim=True) if self.renormalised else weights, chosen

    def run(self, kept: Tensor) -> Tensor:
        """[tokens, hidden] with only the experts in `kept`, bool [experts]."""
        weights, chosen = self.route(kept)
        output = torch.zeros_like(self.x)
        for expert in torch.where(kept)[0].tolist():
            token, slot = torch.where(chosen == expert)
            if not len(token):
                continue
            gate, up = F.linear(self.x[token], self.gate_up[expert]).chunk(2, -1)
            part = F.linear(F.silu(gate) * up, self.down[expert])
            output.index_add_(0, token, part * weights[token, slot, None])
        return output

    def losses(self, kept: Tensor, whole: Tensor) -> Tensor:
        """Norm of the difference from the `whole` layer's output, fp64 [candidates].

        Args:
            kept: bool [candidates, experts].
            whole: [tokens, hidden].
        """
        computed = [(self.run(candidate) - whole).double().norm() for candidate in kept]
        return torch.stack(computed)
