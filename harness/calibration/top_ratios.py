"""How much smaller than its largest a token's other routing probabilities are."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.calibration.seen import Seen
from harness.calibration.statistic import Statistic
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
