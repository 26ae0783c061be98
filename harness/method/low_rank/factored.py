"""Matrices of a block replaced by factors that are least in error on what the matrices multiply."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from harness.calibration.statistics.inputs import Covariances
from harness.calibration.walk import LiveBlock
from harness.method.low_rank.whitening import factors, whitening
from harness.model.edits import LowRank


def factored(block: LiveBlock, ranks: Mapping[str, int]) -> LowRank:
    """Return the edit that replaces matrices of a block by their whitened factors.

    The covariances of all these matrices, [inputs, inputs] each, are held at first and let go one
    by one; with them three fp64 tensors of the size of the one at hand. For a block of experts of
    Mixtral-8x7B in half precision (sums in fp32) that is 6.6 GB for the inputs of `down`, 0.5 GB
    for those that `gate` and `up` share, and 4.9 GB; then the factors, in the model's dtype.

    Args:
        block: The block that a walk is at; its inputs give the covariances.
        ranks: Rank of each matrix, by name, in the block's order.

    Raises:
        Refused: as `LiveBlock.collect`.
    """
    sums = _covariances(block, ranks)
    shared: Tensor | None = None
    root: Tensor | None = None
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, rank in ranks.items():
        weight, covariance = block.weight(name), sums.pop(name)
        if covariance is not shared:  # an expert's gate and up follow each other
            shared, root = covariance, whitening(covariance.to(weight.device))
        pairs[name] = factors(weight, root, rank)
    return LowRank.of(block.index, pairs)


def _covariances(block: LiveBlock, ranks: Mapping[str, int]) -> dict[str, Tensor]:
    parts = sorted({matrix.part for matrix in block.matrices() if matrix.name in ranks})
    return dict(block.collect(Covariances(*parts)).sums)
