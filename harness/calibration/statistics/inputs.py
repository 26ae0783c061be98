"""Inputs of every matrix: second moments, norms and magnitudes over the tokens it multiplied."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.calibration.observe import Seen
from harness.calibration.statistic import Statistic
from harness.model.editing.matrices import Matrix, Part
from harness.model.view import Block


class Covariances(Statistic):
    """Sum of x x^T over the tokens a matrix multiplied, for an expert's those routed to it.

    `sums[name]` is [inputs, inputs] on the model's device, fp64, or fp32 in a model of half
    precision; not divided by the tokens, not centred. Matrices that read the same tokens share one
    tensor object: an expert's gate and up, the attention's q, k and v. `tokens[name]` is their
    number, int64, 0-dim. Where no token was seen the sum is a zero that takes no memory.

    Args:
        parts: Which matrices; default: all.
    """

    cached: ClassVar[bool] = False

    def __init__(self, *parts: Part) -> None:
        self.parts = parts

    def start(self, block: Block) -> None:
        """Zeros for every matrix; those that read the same tokens are grouped."""
        self.sums: dict[str, Tensor] = {}  # [inputs, inputs] each
        self.tokens: dict[str, Tensor] = {}
        half = block.model.dtype in (torch.float16, torch.bfloat16)
        self._dtype = torch.float32 if half else torch.float64
        self._groups: dict[tuple[str, int | None], list[Matrix]] = {}
        for matrix in block.matrices(*self.parts):
            self._groups.setdefault((matrix.reads, matrix.expert), []).append(matrix)
        device = "cpu" if block.model.device.type == "meta" else block.model.device
        for group in self._groups.values():
            width = group[0].shape[1]
            zero = torch.zeros((), dtype=self._dtype, device=device)
            self._set(group, zero.expand(width, width), torch.zeros((), dtype=torch.int64))

    def update(self, seen: Seen) -> None:
        """Add one batch."""
        for group in self._groups.values():
            x = seen.inputs(group[0]).to(self._dtype)  # [tokens, inputs]
            if not len(x):
                continue
            total, tokens = self.sums[group[0].name], self.tokens[group[0].name]
            # In place once there is something: these are the largest tensors of a calibration.
            total = total.addmm_(x.mT, x) if int(tokens) else x.mT @ x
            self._set(group, total, tokens + len(x))

    def _set(self, group: list[Matrix], total: Tensor, tokens: Tensor) -> None:
        for matrix in group:
            self.sums[matrix.name] = total
            self.tokens[matrix.name] = tokens


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
