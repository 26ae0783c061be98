"""SVD-LLM: truncated SVD of the whitened matrix, which minimises the error of its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from harness.method import (
    Calibration,
    Edit,
    Method,
    MoEModel,
    Note,
    Propagate,
    TargetedRanks,
    factored,
)


class SVDLLM(TargetedRanks, Method):
    """SVD-LLM's truncation-aware whitening (Wang et al. 2024, arXiv 2403.07378).

    Per matrix, A = sum x x^T over the tokens it multiplied (for an expert's matrix those routed to
    it), A = L L^T, W L = U S V^T; W becomes (U_k S_k^1/2)(S_k^1/2 V_k^T L^-1), whose squared error
    on the outputs is the sum of the S^2 left out. All matrices of one shape get the same rank.

    A `ratio` is cut off to a rank as in the authors' code, int(m n (1 - ratio) / (m + n)), for
    matching their models; it removes never less than asked.

    A block's inputs are those of the original model, as in the authors' code, unless `propagate =
    "edited"`.

    Deviations: the paper's second step, which fits the factors anew to a compressed prefix, is not
    done (`propagate = "edited"` whitens on such inputs instead), nor its fine-tuning. Attention is
    left alone unless targeted; there k follows each matrix's own shape, where the authors' code
    gives k and v projections the rank of a square matrix. An expert that no token reached gets the
    plain SVD. Covariances of half-precision models are summed in fp32, of others in fp64.
    """

    name: ClassVar[str] = "svd-llm"
    reference: ClassVar[str] = "Wang et al. 2024, arXiv 2403.07378: least ||(W - u v) X||_F"

    propagate: Propagate = "original"

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one LowRank per block that has a target."""
        plan = self.plan(model)
        for block in calibration.walk(model, follow=self.propagate):
            if block.index in plan:
                yield factored(block, plan[block.index])

    def _rounded(self, rank: float) -> int:
        return int(rank)
