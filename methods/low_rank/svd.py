"""Plain SVD: the low-rank baseline that looks at no token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from harness.method import Calibration, Edit, LowRank, Method, MoEModel, Note, TargetedRanks
from harness.method.low_rank.whitening import factors


class SVD(TargetedRanks, Method):
    """Truncated singular value decomposition of each matrix on its own (Eckart and Young 1936).

    W = U S V^T is replaced by (U_k S_k^1/2)(S_k^1/2 V_k^T), the nearest matrix of rank k in the
    Frobenius norm. All matrices of one shape get the same rank. A `ratio` is rounded to the
    nearest rank.
    """

    name: ClassVar[str] = "svd"
    reference: ClassVar[str] = "Eckart and Young 1936: least ||W - u v||_F at rank k"
    calibrated: ClassVar[bool] = False

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one LowRank per block that has a target."""
        plan = self.plan(model)
        for block in model.blocks:
            if block.index in plan:
                ranks = plan[block.index].items()
                yield LowRank.of(
                    block.index,
                    {name: factors(block.weight(name), None, rank) for name, rank in ranks},
                )
