"""Pruning by expert activation norm: the experts with the smallest outputs go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from harness.calibration.passes.saliency import highest, saliencies
from harness.calibration.walk import Calibration
from harness.method.contract import Method, Note
from harness.method.counts import KeepBudget
from harness.model.edits import Edit, KeepExperts
from harness.model.view import MoEModel


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
        kept = {
            block.index: self.kept(len(block.experts), block.top_k, where=f"block {block.index}")
            for block in model.moe_blocks()
        }
        scores = {}
        for index, one in saliencies(model, calibration).items():
            values = {"sum": one.norms, "mean": one.per_token(one.norms), "weighted": one.weighted}
            scores[index] = one.of_experts(values[self.statistic])
        yield Note(name="ean.scores", data=scores)
        for index, layer in scores.items():
            if kept[index] < len(layer):
                yield KeepExperts(block=index, experts=highest(layer, kept[index]))
