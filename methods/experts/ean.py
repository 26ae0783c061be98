"""Pruning by expert activation norm: the experts with the smallest outputs go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from torch import Tensor

from harness.method import (
    Calibration,
    Edit,
    KeepBudget,
    Method,
    MoEModel,
    Note,
    Saliency,
    keep_highest,
    saliencies,
)


class EAN(KeepBudget, Method):
    """Expert activation norm, one-shot: a baseline of REAP (Lasby et al. 2025, arXiv 2510.13999).

    An expert's score is the L2 norm of its output without the routing weight, summed over the
    calibration tokens routed to it in the original model (`sum`, so that it counts how many they
    are), or their mean (`mean`). `weighted` sums the norm times the router's softmax weight. The
    lowest scores of every layer go; of a tie the lower numbers.

    Deviations: only the experts that a token was routed to are run, and sums are in fp64.
    """

    name: ClassVar[str] = "ean"
    reference: ClassVar[str] = "Lasby et al. 2025, arXiv 2510.13999: lowest sum_t ||f_e(x_t)||"

    statistic: Literal["sum", "mean", "weighted"] = "sum"
    """Sum over the tokens routed to the expert, their mean, or the sum weighted by the router."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield the scores, and KeepExperts for every layer that loses some."""
        kept = self.plan(model)
        yield from self.told(model)
        scores = {}
        for index, saliency in saliencies(model, calibration).items():
            scores[index] = saliency.of_experts(self._scores(saliency))
        yield Note(name="ean.scores", data=scores)
        yield from keep_highest(model, scores, kept)

    def _scores(self, saliency: Saliency) -> Tensor:
        if self.statistic == "weighted":
            return saliency.weighted
        return saliency.norms if self.statistic == "sum" else saliency.per_token(saliency.norms)
