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
            index, weights = seen.index.flatten(), seen.weights.flatten()
            self.mass.index_add_(0, index.cpu(), weights.double().cpu())
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
        self.count += torch.bincount(seen.index.flatten(), minlength=len(self.count)).cpu()


class Similarity(Statistic):
    """Cosine similarities of what enters and leaves the MoE layer, summed over tokens.

    `residual`: of the residual stream before and after the MoE layer is added to it (S^NM);
    `layer`: of the MoE layer's normalised input and its output alone (S^M).
    """

    def start(self, block: Block) -> None:
        """Zeros."""
        self.residual = torch.zeros((), dtype=torch.float64)
        self.layer = torch.zeros((), dtype=torch.float64)
        self.tokens = torch.zeros((), dtype=torch.int64)

    def update(self, seen: Seen) -> None:
        """Add one batch."""
        residual, y = seen.residual.double(), seen.y.double()
        self.residual += F.cosine_similarity(residual, residual + y, dim=-1).sum().cpu()
        self.layer += F.cosine_similarity(seen.x.double(), y, dim=-1).sum().cpu()
        self.tokens += len(residual)


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
