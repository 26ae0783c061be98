"""Outputs: the mean of every expert's over all tokens, and the MoE layer's own."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.calibration.observe import Seen
from harness.calibration.statistic import Statistic
from harness.model.view import Block


class MeanOutputs(Statistic):
    """Every expert's output without routing weight, summed over all tokens.

    All experts run on all tokens: experts / top-k times the work of the model's own layer.
    """

    def start(self, block: Block) -> None:
        """Zeros over the base model's experts."""
        shape = (block.model.experts, int(block.model.config.hidden_size))
        self.total = torch.zeros(shape, dtype=torch.float64)  # [base experts, hidden]
        self.tokens = torch.zeros((), dtype=torch.int64)

    def update(self, seen: Seen) -> None:
        """Run every expert on one batch."""
        for expert in seen.block.experts:
            self.total[expert] += seen.expert(expert, seen.x).double().sum(0).cpu()
        self.tokens += len(seen.x)

    def mean(self) -> Tensor:
        """The mean output, fp64 [base experts, hidden]; 0 without tokens."""
        return self.total / self.tokens.clamp_min(1)


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
