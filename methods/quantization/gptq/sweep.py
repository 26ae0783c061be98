"""GPTQ's pass over the columns: round one, let those after it make up for its error."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from harness.method import Quantized, Scheme, fit, grouped, nearest
from harness.method.quantization.grid import assembled

Grids = Literal["updated", "lazy", "static"]
"""Weights that a group's grid is fitted to: those when its first column is reached ("updated"), at
the start of the columns at hand ("lazy"), or before any update ("static")."""


class Sweep:
    """Matrices side by side, each with the factor of its own inverse Hessian.

    Inputs come before outputs in here, so that a column is contiguous.

    Args:
        weight: [stack, outputs, inputs].
        order: Order in which inputs are taken, int64 [stack, inputs].
        upper: U of each, inputs in that order, [stack, inputs, inputs]; its dtype is worked in.
        scheme: Scheme of the result.
        grids: Weights that grids are fitted to; with groups and an order other than the inputs'
            own, "static".
        search: True if grids search their range.
    """

    def __init__(
        self,
        weight: Tensor,
        order: Tensor,
        upper: Tensor,
        scheme: Scheme,
        *,
        grids: Grids = "updated",
        search: bool = False,
    ) -> None:
        self.scheme, self.grids, self.search = scheme, grids, search
        self.dtype = weight.dtype
        self.order, self.upper = order, upper
        self.size = scheme.group or weight.shape[-1]
        exact = weight.to(upper)
        grid = fit(grouped(exact, scheme), scheme, self.dtype, search=search)
        self.scales, self.zeros = (
            part.mT.contiguous() for part in grid
        )  # [stack, groups, outputs]
        self.left = exact.mT.take_along_dim(order[..., None], 1)  # [stack, inputs, outputs]
        self.codes = torch.empty_like(self.left, dtype=torch.uint8)
        self._stack = torch.arange(len(weight), device=weight.device)

    def run(self, columns: int) -> Quantized:
        """Round every column.

        Args:
            columns: Number of columns taken together: those after them are updated once, when all
                are done.
        """
        inputs = self.left.shape[1]
        for start in range(0, inputs, columns):
            stop = min(start + columns, inputs)
            errors = self._together(start, stop)
            self.left[:, stop:].baddbmm_(self.upper[:, start:stop, stop:].mT, errors, alpha=-1)
        back = self.order.argsort(-1)[..., None]
        parts = (self.codes.take_along_dim(back, 1), self.scales, self.zeros)
        codes, scales, zeros = (part.mT.contiguous() for part in parts)
        return assembled(codes, scales, zeros, self.scheme, self.dtype)

    def _together(self, start: int, stop: int) -> Tensor:
        """Round these columns; their errors, [stack, columns, outputs]."""
        seen = self.left[:, start:].clone() if self.grids == "lazy" else self.left[:, start:]
        errors = torch.empty_like(self.left[:, start:stop])
        for column in range(start, stop):
            if self.scheme.group and self.grids != "static" and column % self.size == 0:
                self._fit(column // self.size, seen[:, column - start :][:, : self.size])
            errors[:, column - start] = error = self._round(column)
            row = self.upper[:, column, column + 1 : stop, None]
            self.left[:, column + 1 : stop].addcmul_(row, error[:, None], value=-1)
        return errors

    def _fit(self, group: int, values: Tensor) -> None:
        """Fit a group's grid to values, [stack, size of the group, outputs]."""
        grid = fit(values.mT, self.scheme, self.dtype, search=self.search)
        self.scales[:, group], self.zeros[:, group] = grid

    def _round(self, column: int) -> Tensor:
        """Round a column; (W_j - Q_j) / U_jj, [stack, outputs]."""
        group = self.order[:, column] // self.size  # [stack]
        scale, zero = self.scales[self._stack, group], self.zeros[self._stack, group]
        values = self.left[:, column]
        code = nearest(values, scale, zero, self.scheme.levels)
        self.codes[:, column] = code
        return (values - (code - zero) * scale) / self.upper[:, column, column, None]
