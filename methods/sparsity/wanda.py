"""Wanda: weights pruned by magnitude times input norm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

import torch
from pydantic import model_validator
from torch import Tensor

from harness.method import (
    Calibration,
    Edit,
    InputNorms,
    Method,
    MoEModel,
    Note,
    Propagate,
    SetWeights,
    Sparsity,
    lowest,
)

TOLERANCE = 1e-3
"""Tolerance of the variant's bisection, on the sparsity reached and on alpha."""


class Wanda(Sparsity, Method):
    """Wanda (Sun et al. 2024, arXiv 2306.11695) over the matrices of every block.

    |W_ij| * ||X_j||_2, X the inputs the matrix multiplied, for an expert those of the tokens
    routed to it. Unstructured: in every output row the int(inputs x sparsity) smallest are zeroed.
    n:m: the n smallest of every m consecutive inputs. With `variant`, every row loses its smallest
    weights up to a share alpha of the row's summed metric, with one alpha per matrix, found by
    bisection, that gives the sparsity asked for. A block is pruned from the statistics of its
    unpruned self; later blocks see it pruned, unless `propagate = "original"`, as in C-MoE.

    Deviations: for a matrix that no calibration token reached the magnitude alone decides.
    Attention is left alone unless targeted; the authors' code prunes every linear layer, on
    Mixtral even the router.
    """

    name: ClassVar[str] = "wanda"
    reference: ClassVar[str] = "Sun et al. 2024, arXiv 2306.11695: smallest |W_ij| ||X_j||_2"

    variant: bool = False
    """The paper's variant: a share of every row's summed metric instead of a count per row."""
    propagate: Propagate = "edited"

    @model_validator(mode="after")
    def _variant_is_unstructured(self) -> Self:
        if self.variant and self.pattern is not None:
            raise ValueError("variant needs sparsity; it has no n:m form")
        return self

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one SetWeights per block that has a target."""
        parts = self.parts(model)
        for block in calibration.walk(model, follow=self.propagate):
            chosen = block.matrices(*parts)
            if not chosen:
                continue
            squares = block.collect(InputNorms(*parts)).squares
            pruned = {
                matrix.name: self._prune(block.weight(matrix), squares[matrix.name])
                for matrix in chosen
            }
            yield SetWeights.of(block.index, pruned)

    def _prune(self, weight: Tensor, squares: Tensor) -> Tensor:
        """The weight [outputs, inputs] with its smallest scores zeroed."""
        if weight.is_meta:  # a dry run of thousands of matrices
            return weight
        norms = squares.sqrt().float().to(weight.device)  # [inputs]
        if not bool(squares.any()):
            norms = torch.ones_like(norms)
        scores = weight.float().abs() * norms
        return weight.masked_fill(self._zeroed(scores), 0.0)

    def _zeroed(self, scores: Tensor) -> Tensor:
        if self.sparsity is None:
            return self.in_groups(scores)
        if self.variant:
            return by_mass(scores, self.sparsity)
        return lowest(scores, int(scores.shape[1] * self.sparsity))


def by_mass(scores: Tensor, sparsity: float) -> Tensor:
    """Mark the lowest scores of every row up to a share alpha of the row's sum, bool.

    Bisection on alpha from .4 in [0, .8] until the sparsity is met to `TOLERANCE`, as in the
    authors' code; a sparsity that .8 of the mass does not reach ends near .8.

    Args:
        scores: [outputs, inputs], not negative.
        sparsity: Fraction marked, over the whole matrix.
    """
    ordered = scores.sort(dim=1, stable=True).values
    mass, total = ordered.cumsum(dim=1), scores.sum(dim=1, keepdim=True)

    def marked(alpha: float) -> Tensor:
        count = (mass <= total * alpha).sum(dim=1, keepdim=True)  # [outputs, 1]
        largest = ordered.gather(1, (count - 1).clamp_min(0))
        return (scores <= largest) & (count > 0)

    low, alpha, high = 0.0, 0.4, 0.8
    zeroed = marked(alpha)
    while not scores.is_meta and high - low >= TOLERANCE:
        reached = float(zeroed.float().mean())
        if abs(reached - sparsity) <= TOLERANCE:
            break
        low, high = (low, alpha) if reached > sparsity else (alpha, high)
        alpha = (low + high) / 2
        zeroed = marked(alpha)
    return zeroed
