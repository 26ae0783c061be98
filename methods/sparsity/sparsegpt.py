"""SparseGPT: weights pruned one column after the other, the rest updated to make up for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from harness.method import (
    Block,
    Calibration,
    Covariances,
    Edit,
    Method,
    MoEModel,
    Note,
    Propagate,
    SetWeights,
    Sparsity,
    below,
    inverse_factor,
    lowest,
)


class SparseGPT(Sparsity, Method):
    """SparseGPT (Frantar and Alistarh 2023, arXiv 2301.00774) over the matrices of every block.

    With H = sum_t x_t x_t^T over the tokens a matrix multiplied (an expert's: those routed to it)
    and H^-1 = U^T U, U upper triangular, columns are taken in blocks. In a block the weights with
    the least (W_ij / U_jj)^2 are zeroed: up to the int(weights x sparsity)-th of the block, counted
    from 0, or n of every m consecutive inputs, chosen when the first of the m is reached. Each
    column's error e = (W_j - W'_j) / U_jj is taken from the columns after it: W -= e U_j.
    A block of the model is pruned from the statistics of its unpruned self; later ones see it
    pruned, unless `propagate = "original"`, as in C-MoE.

    Deviations: the factor 2 / n of H cancels and is left out. U comes from one Cholesky
    factorisation of H with its rows and columns reversed, not from that of an inverse. Where
    rounding makes H indefinite all the same, the damping is raised tenfold until it is not. An
    input that is always zero does not count in the damping's mean with the 1 it is given. A matrix
    that no token reached has H = 1: the magnitude alone decides. Attention is left alone unless
    targeted.
    """

    name: ClassVar[str] = "sparsegpt"
    reference: ClassVar[str] = (
        "Frantar and Alistarh 2023, arXiv 2301.00774: least (W_ij / U_jj)^2, H^-1 = U^T U"
    )

    damping: float = Field(default=0.01, gt=0, le=1)
    """Damping added to H's diagonal, as a fraction of its mean ("percdamp")."""
    columns: int = Field(default=128, ge=1)
    """Number of columns per block ("blocksize")."""
    propagate: Propagate = "edited"

    @model_validator(mode="after")
    def _groups_fit(self) -> Self:
        if self.group and self.columns % self.group[1]:
            raise ValueError(f"pattern {self.pattern!r} does not divide columns = {self.columns}")
        return self

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one SetWeights per block that has a target."""
        parts = self.parts(model)
        for block in calibration.walk(model, follow=self.propagate):
            if block.matrices(*parts):
                moments = block.collect(Covariances(*parts)).sums
                yield SetWeights.of(block.index, self._pruned(block, moments))

    def _pruned(self, block: Block, moments: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The new weights of the matrices that have a moment, by name."""
        weights = {name: block.weight(name) for name in moments}
        if block.model.device.type == "meta":
            return weights
        last = upper = torch.empty(0)
        for name, moment in moments.items():
            if moment is not last:  # an expert's gate and up share theirs
                last, upper = moment, inverse_factor(moment, self.damping)
            weights[name] = self._prune(weights[name], moment.diagonal(), upper)
        return weights

    def _prune(self, weight: Tensor, squares: Tensor, upper: Tensor) -> Tensor:
        """The weight [outputs, inputs] pruned and updated.

        Args:
            weight: [outputs, inputs].
            squares: H's diagonal, [inputs]; all zero where there was no token.
            upper: U, [inputs, inputs].
        """
        left = weight.to(upper, copy=True)
        if bool(squares.any()):
            left[:, squares == 0] = 0.0  # inputs that are always zero
        for start in range(0, left.shape[1], self.columns):
            stop = start + self.columns
            errors = self._prune_columns(left[:, start:stop], upper[start:stop, start:stop])
            left[:, stop:] -= errors @ upper[start:stop, stop:]
        return left.to(weight.dtype)

    def _prune_columns(self, left: Tensor, upper: Tensor) -> Tensor:
        """Prune one block of columns in place; returns the errors, [outputs, columns]."""
        scale = upper.diagonal()  # [columns]
        errors = torch.zeros_like(left)
        if self.sparsity is not None:
            zeroed = below((left / scale).square(), self.sparsity)
        else:
            zeroed = torch.zeros_like(left, dtype=torch.bool)
        for column in range(left.shape[1]):
            if self.group and column % self.group[1] == 0:
                here = slice(column, column + self.group[1])
                zeroed[:, here] = lowest((left[:, here] / scale[here]).square(), self.group[0])
            errors[:, column] = left[:, column].where(zeroed[:, column], 0.0) / scale[column]
            left[:, column:].addr_(errors[:, column], upper[column, column:], alpha=-1)
        left.masked_fill_(zeroed, 0.0)  # zero to the last bit
        return errors
