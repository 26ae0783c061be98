"""The statistics that methods share."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.calibration.seen import Seen
from harness.calibration.statistic import Statistic
from harness.model.matrices import Part
from harness.model.view import Block


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


class InputNorms(Statistic):
    """Squared L2 norm of every input feature of every matrix, over the tokens it multiplied.

    Args:
        parts: Which matrices.
    """

    def __init__(self, *parts: Part) -> None:
        self.parts = parts

    def start(self, block: Block) -> None:
        """Zeros for every matrix."""
        self._matrices = block.matrices(*self.parts)
        self.squares: dict[str, Tensor] = {
            matrix.name: torch.zeros(matrix.shape[1], dtype=torch.float64)  # [inputs]
            for matrix in self._matrices
        }

    def update(self, seen: Seen) -> None:
        """Add one batch."""
        for matrix in self._matrices:
            inputs = seen.inputs(matrix).double()
            self.squares[matrix.name] += inputs.square().sum(0).cpu()


class Outputs(Statistic):
    """The MoE layer's outputs on every token, per batch: [tokens, hidden] each."""

    cached: ClassVar[bool] = False

    def start(self, block: Block) -> None:
        """No batch yet."""
        self.key = ""
        self.batches: list[Tensor] = []

    def update(self, seen: Seen) -> None:
        """Keep one batch."""
        self.batches.append(seen.y)
