"""SVD-LLM: truncated SVD of the whitened matrix, which minimises the error of its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from harness.calibration.walk import Calibration
from harness.method.contract import Method, Note
from harness.method.low_rank.factored import factored
from harness.method.ranks import TargetedRanks
from harness.model.edits import Edit
from harness.model.view import MoEModel


class SVDLLM(TargetedRanks, Method):
    """SVD-LLM's truncation-aware whitening (Wang et al. 2024, arXiv 2403.07378).

    Per matrix, A = sum x x^T over the tokens it multiplied (for an expert's matrix those routed to
    it), A = L L^T, W L = U S V^T; W becomes (U_k S_k^1/2)(S_k^1/2 V_k^T L^-1), whose squared error
    on the outputs is the sum of the S^2 left out. All matrices of one shape get the same rank.

    A `ratio` is cut off to a rank as in the authors' code, int(m n (1 - ratio) / (m + n)), for
    matching their models; it removes never less than asked.

    Deviations: the paper's second step, which fits the factors anew to a compressed prefix, is not
    done (`propagate = "compressed"` whitens on such inputs instead), nor its fine-tuning. Attention
    is left alone unless targeted; there k follows each matrix's own shape, where the authors' code
    gives k and v projections the rank of a square matrix. An expert that no token reached gets the
    plain SVD. Covariances of half-precision models are summed in fp32, of others in fp64.
    """

    name: ClassVar[str] = "svd-llm"
    reference: ClassVar[str] = "Wang et al. 2024, arXiv 2403.07378: least ||(W - u v) X||_F"

    propagate: Literal["original", "compressed"] = "original"
    """Inputs of a block: of the model as it was, as in the authors' code, or through the blocks
    compressed so far."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one LowRank per block that has a target."""
        plan = self.planned(model)
        follow: Literal["original", "edited"] = (
            "original" if self.propagate == "original" else "edited"
        )
        for block in calibration.walk(model, follow=follow):
            if block.index in plan:
                yield factored(block, plan[block.index])

    def _rounded(self, rank: float) -> int:
        return int(rank)
