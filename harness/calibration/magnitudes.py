"""How large what every matrix multiplied is, input by input: what AWQ's scales follow."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.calibration.seen import Seen
from harness.calibration.statistic import Statistic
from harness.model.matrices import Matrix, Part
from harness.model.view import Block


class Magnitudes(Statistic):
    """Sum of |x| over the tokens a matrix multiplied, for an expert's those routed to it.

    Args:
        parts: Which matrices; default: all.
    """

    def __init__(self, *parts: Part) -> None:
        self.parts = parts

    def start(self, block: Block) -> None:
        """Zeros, once for all matrices that read the same tokens."""
        self.sums: dict[str, Tensor] = {}  # fp64 [inputs] each, on the CPU
        alike = {_key(matrix): matrix for matrix in block.matrices(*self.parts)}
        self._matrices = tuple(alike.values())
        for key, matrix in alike.items():
            self.sums[key] = torch.zeros(matrix.shape[1], dtype=torch.float64)

    def update(self, seen: Seen) -> None:
        """Add one batch."""
        for matrix in self._matrices:
            x = seen.inputs(matrix)  # [tokens, inputs]
            self.sums[_key(matrix)] += x.double().abs().sum(0).cpu()

    def of(self, matrix: Matrix) -> Tensor:
        """The sum for what this matrix reads, fp64 [inputs], not divided by the tokens."""
        return self.sums[_key(matrix)]


def _key(matrix: Matrix) -> str:
    return f"{matrix.reads} {'' if matrix.expert is None else matrix.expert}"
