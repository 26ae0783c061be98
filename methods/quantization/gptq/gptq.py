"""GPTQ: weights rounded one column after the other, the rest updated to make up for it."""

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
    Quantization,
    QuantizationErrors,
    Quantized,
    QuantizeWeights,
    inverse_factor,
    rounded,
    rounded_note,
    stacks,
)
from methods.quantization.gptq.sweep import Grids, Sweep

MOST = 2**24
"""Numbers in the weights and Hessians of one stack; those of a single Hessian may be more."""


class GPTQ(Quantization, Method):
    """GPTQ (Frantar et al. 2023, arXiv 2210.17323) over the matrices of every block.

    With H = sum_t x_t x_t^T over the tokens a matrix multiplied (an expert's: those routed to it)
    and H^-1 = U^T U, U upper triangular, columns are rounded one by one. Each column's error
    e = (W_j - Q_j) / U_jj is taken from the columns after it: W -= e U_j. A group's grid
    (`harness.method.quantization.grid.fit`) is that of its weights when its first column is
    reached. A block of the model is quantized from the statistics of its own full-precision self;
    later ones see it quantized, unless `propagate = "original"`.

    Deviations: `harness.method.quantization.grid.fit` names those of the grid. A group's grid sees
    all updates made until then; in the authors' code those from the `columns` at hand are
    missing (`lazy_groups`). The factor 2 / n of H cancels and is left out, and U comes from one
    Cholesky factorisation, as in `harness.method.inverse`. An input that is always zero does not
    count in the damping's mean with the 1 it is given, and its weights are rounded, not zeroed:
    other tokens may have it. What fewer than `min_tokens` tokens reached is rounded to nearest.
    Attention is left alone unless targeted.
    """

    name: ClassVar[str] = "gptq"
    reference: ClassVar[str] = (
        "Frantar et al. 2023, arXiv 2210.17323: W -= (W_j - Q_j) / U_jj U_j, H^-1 = U^T U"
    )

    min_tokens: int = Field(default=32, ge=1)
    """Number of calibration tokens below which a matrix is only rounded to nearest; the record
    names it then. With fewer than 32 the updates fitted these tokens and made the error on others
    larger."""
    act_order: bool = False
    """Take columns by descending diagonal of H. With groups it needs `static_groups`."""
    static_groups: bool = False
    """Fit grids to the weights as they were before any update."""
    lazy_groups: bool = False
    """Compatibility: a group's grid misses the updates from columns of the same `columns`, as in
    the authors' code; groups shorter than that are then little better than static ones."""
    search: bool = False
    """Shrink every group's range to the one of least sum |w - q|^2.4 ("mse" in their code)."""
    damping: float = Field(default=0.01, gt=0, le=1)
    """Damping added to H's diagonal, as a fraction of its mean ("percdamp")."""
    columns: int = Field(default=128, ge=1)
    """Number of columns between two updates of all that are left ("blocksize")."""
    propagate: Propagate = "edited"

    @model_validator(mode="after")
    def _groups_fit(self) -> Self:
        if self.act_order and self.group and not self.static_groups:
            raise ValueError("act_order mixes the groups: set static_groups = true or group = 0")
        if self.static_groups and self.lazy_groups:
            raise ValueError("give static_groups or lazy_groups, not both")
        fits = not self.group or 0 in (self.columns % self.group, self.group % self.columns)
        if not fits and not self.static_groups:
            raise ValueError(f"columns = {self.columns} cuts groups of {self.group} in pieces")
        return self

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one QuantizeWeights per block that has a target."""
        parts = self.parts(model)
        errors = QuantizationErrors(self.scheme, search=self.search)
        starved: dict[int, dict[str, int]] = {}
        for block in calibration.walk(model, follow=self.propagate):
            if not block.matrices(*parts):
                continue
            seen = block.collect(Covariances(*parts))
            starved[block.index] = self.starved(seen.tokens)
            quantized = self._quantized(block, seen.sums, starved[block.index])
            values = ((name, matrix.dequantise()) for name, matrix in quantized.items())
            errors.add(block, seen.sums, values)
            yield QuantizeWeights.of(block.index, quantized)
        yield errors.note()
        yield rounded_note(starved)

    def _quantized(
        self, block: Block, moments: Mapping[str, Tensor], starved: Mapping[str, int]
    ) -> dict[str, Quantized]:
        """The quantized matrices that have a moment, by name."""
        quantized = {
            name: rounded(block.weight(name), self.scheme, search=self.search) for name in starved
        }
        fed = [m for m in block.matrices() if m.name in moments and m.name not in starved]
        for stack in stacks(fed, moments, most=MOST):
            moment = stack.moment(moments.__getitem__)
            for name, matrix in stack.apart(self.solve(stack.weight(block.weight), moment)):
                # A view would keep the whole stack in memory.
                tensors = {part: tensor.clone() for part, tensor in matrix.tensors.items()}
                quantized[name] = matrix.holding(tensors)
        return {name: quantized[name] for name in moments}

    def solve(self, weight: Tensor, moment: Tensor) -> Quantized:
        """Quantize matrices side by side.

        Args:
            weight: [stack, outputs, inputs].
            moment: H of each, [stack, inputs, inputs]; its dtype is worked in.
        """
        squares = moment.diagonal(dim1=-2, dim2=-1)  # [stack, inputs]
        order = torch.arange(squares.shape[-1], device=squares.device).expand(squares.shape)
        if self.act_order:
            order = squares.argsort(dim=-1, descending=True, stable=True)
            moment = moment.take_along_dim(order[..., None], 1).take_along_dim(order[:, None], 2)
        upper = inverse_factor(moment, self.damping)
        sweep = Sweep(weight, order, upper, self.scheme, grids=self._grids, search=self.search)
        return sweep.run(self.columns)

    @property
    def _grids(self) -> Grids:
        if self.static_groups:
            return "static"
        return "lazy" if self.lazy_groups else "updated"
