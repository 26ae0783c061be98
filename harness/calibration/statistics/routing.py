"""Routing: weight and tokens per expert, ratios of coefficients, likeness of router logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from harness.calibration.observe import Seen
from harness.calibration.statistic import Statistic
from harness.model.layers.experts import NOWHERE
from harness.model.view import Block


class TopRatios(Statistic):
    """p_i / p_1 for the 2nd to k-th largest routing probability of every token, fp32."""

    cached: ClassVar[bool] = False

    def start(self, block: Block) -> None:
        """No token yet."""
        self._batches: list[Tensor] = []

    def update(self, seen: Seen) -> None:
        """Keep one batch; in a ratio of coefficients every normalisation cancels."""
        weights = seen.coefficients.float().sort(dim=-1, descending=True).values  # [tokens, k]
        self._batches.append((weights[:, 1:] / weights[:, :1]).flatten().cpu())

    def taken(self) -> Iterator[tuple[str, Tensor]]:
        """The ratios."""
        yield "ratios", self._sorted()

    def quantile(self, share: float) -> float:
        """The ratio below which `share` of them lie, between neighbours linearly; 0 without any."""
        ratios = self._sorted()
        if not len(ratios):
            return 0.0
        place = share * (len(ratios) - 1)
        low = int(place)
        high = min(low + 1, len(ratios) - 1)
        return float(ratios[low] + (ratios[high] - ratios[low]) * (place - low))

    def mean(self) -> float:
        """Their mean; 0 without any."""
        ratios = self._sorted()
        return float(ratios.mean()) if len(ratios) else 0.0

    def _sorted(self) -> Tensor:
        return torch.cat([torch.zeros(0), *self._batches]).double().sort().values


class RouterMass(Statistic):
    """Routing weight per expert, summed over tokens.

    Args:
        routed: Sum the coefficients of the chosen experts only, instead of the full softmax.
    """

    def __init__(self, *, routed: bool = False) -> None:
        self.routed = routed

    def start(self, block: Block) -> None:
        """Zeros over the base model's experts."""
        self.mass = torch.zeros(block.model.experts, dtype=torch.float64)  # [base experts]

    def update(self, seen: Seen) -> None:
        """Add one batch."""
        if self.routed:
            index, weights = seen.index.flatten().cpu(), seen.weights.flatten().double().cpu()
            self.mass.index_add_(0, index.clamp(min=0), weights)  # weight 0 where none is computed
        else:
            self.mass += seen.probs.double().sum(0).cpu()


class TokenCount(Statistic):
    """Tokens routed to each expert."""

    def start(self, block: Block) -> None:
        """Zeros over the base model's experts."""
        self.experts = block.experts
        self.count = torch.zeros(block.model.experts, dtype=torch.int64)  # [base experts]

    def update(self, seen: Seen) -> None:
        """Count one batch."""
        index = seen.index.flatten()
        self.count += torch.bincount(index[index >= 0], minlength=len(self.count)).cpu()


class RouterSimilarity(Statistic):
    """Inner products of the router's logits of every two experts, over all tokens.

    Needs one router row per expert left; rows that lead to none are passed over.
    """

    def start(self, block: Block) -> None:
        """Zeros over the base model's experts."""
        experts = block.model.experts
        self.products = torch.zeros(experts, experts, dtype=torch.float64)  # [base, base]

    def update(self, seen: Seen) -> None:
        """Add one batch."""
        rows = torch.tensor(seen.block.rows)
        left = rows != NOWHERE
        logits = seen.logits[:, left].double()  # [tokens, experts left]
        numbers = rows[left]
        self.products[numbers[:, None], numbers] += (logits.mT @ logits).cpu()

    def cosines(self) -> Tensor:
        """Cosine of the experts' logits over the tokens, fp64 [base, base]; 0 without tokens."""
        norms = self.products.diagonal().sqrt()
        return self.products / (norms[:, None] * norms).clamp_min(torch.finfo(torch.float64).tiny)
