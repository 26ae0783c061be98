"""REAP: the experts whose weighted outputs are smallest go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from harness.calibration.passes.saliency import highest, saliencies
from harness.calibration.walk import Calibration
from harness.method.contract import Method, Note
from harness.method.counts import KeepBudget
from harness.model.edits import Edit, KeepExperts
from harness.model.view import MoEModel


class Reap(KeepBudget, Method):
    """Router-weighted expert activation pruning (Lasby et al. 2025, arXiv 2510.13999), one-shot.

    An expert's score is the mean, over the calibration tokens routed to it in the original model,
    of its routing weight times the L2 norm of its output. The lowest scores of every layer go.

    Deviations: only the experts that a token was routed to are run, and sums are in fp64. The
    authors' code divides the weights by their sum over the top-k only where the configuration has
    a field `norm_topk_prob` that says so; Mixtral has none, though the model does divide. Here the
    weights are the model's own; `renormalise = false` scores Mixtral as the authors' code does. A
    family's constant factor on all routing weights is left out, since it changes no order.
    """

    name: ClassVar[str] = "reap"
    reference: ClassVar[str] = (
        "Lasby et al. 2025, arXiv 2510.13999: lowest mean_t p_te ||f_e(x_t)||"
    )

    renormalise: bool | None = None
    """Divide the weights of the chosen experts by their sum; default: as the model does."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield the scores, and KeepExperts for every layer that loses some."""
        kept = {
            block.index: self.kept(len(block.experts), block.top_k, where=f"block {block.index}")
            for block in model.moe_blocks()
        }
        renormalise = self.renormalise
        if renormalise is None:
            renormalise = model.family.renormalises(model.config)
        scores = {}
        for index, one in saliencies(model, calibration).items():
            total = one.weighted_renormalised if renormalise else one.weighted
            scores[index] = one.of_experts(one.per_token(total))
        yield Note(name="reap.scores", data=scores)
        for index, layer in scores.items():
            if kept[index] < len(layer):
                yield KeepExperts(block=index, experts=highest(layer, kept[index]))
