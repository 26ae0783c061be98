"""Magnitude pruning: the smallest weights, without a look at any token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from harness.method import Calibration, Edit, Method, MoEModel, Note, SetWeights, Sparsity, below


class Magnitude(Sparsity, Method):
    """Magnitude pruning, the baseline of Wanda and SparseGPT (Han et al. 2015, arXiv 1506.02626).

    Unstructured: over a whole matrix, every |W_ij| up to the int(weights x sparsity)-th smallest,
    counted from 0, is zeroed, as in the code of Wanda's authors. n:m: the n smallest of every m
    consecutive inputs of a row.

    Deviations: the authors prune every linear layer of a block; here routed and shared experts
    unless `targets` says otherwise.
    """

    name: ClassVar[str] = "magnitude"
    reference: ClassVar[str] = "Han et al. 2015, arXiv 1506.02626: smallest |W_ij| of a matrix"
    calibrated: ClassVar[bool] = False

    inverted: bool = False
    """Compatibility: zero the large weights and keep the small ones. C-MoE's magnitude pruning
    applies its mask the wrong way round; for matching its rows only."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one SetWeights per block that has a target."""
        parts = self.parts(model)
        for block in model.blocks:
            pruned = {
                matrix.name: self._prune(block.weight(matrix)) for matrix in block.matrices(*parts)
            }
            if pruned:
                yield SetWeights.of(block.index, pruned)

    def _prune(self, weight: Tensor) -> Tensor:
        """The weight [outputs, inputs] with its smallest entries zeroed."""
        if weight.is_meta:  # a dry run of thousands of matrices
            return weight
        size = weight.abs()
        small = below(size, self.sparsity) if self.sparsity else self.in_groups(size)
        return weight.masked_fill(~small if self.inverted else small, 0.0)
