"""Similarity of what enters and what leaves an MoE layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.calibration.observe import Seen
from harness.calibration.statistic import Statistic
from harness.model.view import Block


class Similarity(Statistic):
    """Cosine similarities of what enters and leaves the MoE layer, summed over tokens.

    `residual`: of the residual stream before and after the MoE layer is added to it (S^NM);
    `layer`: of the MoE layer's normalised input and its output alone (S^M).

    Args:
        bf16: Round the states and every token's cosine to bf16, as C-MoE does with more than 64
            samples per process.
    """

    def __init__(self, *, bf16: bool = False) -> None:
        self.bf16 = bf16

    def start(self, block: Block) -> None:
        """Zeros."""
        self.residual = torch.zeros((), dtype=torch.float64)
        self.layer = torch.zeros((), dtype=torch.float64)
        self.tokens = torch.zeros((), dtype=torch.int64)

    def update(self, seen: Seen) -> None:
        """Add one batch."""
        residual, y = seen.residual.double(), seen.y.double()
        self.residual += self._summed(residual, residual + y)
        self.layer += self._summed(seen.x.double(), y)
        self.tokens += len(residual)

    def _summed(self, before: Tensor, after: Tensor) -> Tensor:
        if self.bf16:
            before, after = before.bfloat16(), after.bfloat16()
        return F.cosine_similarity(before, after, dim=-1).double().sum().cpu()
