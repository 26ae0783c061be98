"""How alike the router treats two experts."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.calibration.seen import Seen
from harness.calibration.statistic import Statistic
from harness.model.view import Block


class RouterSimilarity(Statistic):
    """Inner products of the router's logits of every two experts, over all tokens.

    Needs one router row per expert left.
    """

    def start(self, block: Block) -> None:
        """Zeros over the base model's experts."""
        experts = block.model.experts
        self.products = torch.zeros(experts, experts, dtype=torch.float64)  # [base, base]

    def update(self, seen: Seen) -> None:
        """Add one batch."""
        logits = seen.logits.double()  # [tokens, experts left]
        numbers = torch.tensor(seen.block.experts)
        self.products[numbers[:, None], numbers] += (logits.mT @ logits).cpu()

    def cosines(self) -> Tensor:
        """Cosine of the experts' logits over the tokens, fp64 [base, base]; 0 without tokens."""
        norms = self.products.diagonal().sqrt()
        return self.products / (norms[:, None] * norms).clamp_min(torch.finfo(torch.float64).tiny)
