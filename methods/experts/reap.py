"""REAP: the experts whose weighted outputs are smallest go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from harness.method import (
    Calibration,
    Edit,
    KeepBudget,
    Method,
    MoEModel,
    Note,
    keep_highest,
    saliencies,
)


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
        kept = self.plan(model)
        yield from self.told(model)
        renormalise = self.renormalise
        if renormalise is None:
            renormalise = model.family.renormalises(model.config)
        scores = {}
        for index, saliency in saliencies(model, calibration).items():
            total = saliency.weighted_renormalised if renormalise else saliency.weighted
            scores[index] = saliency.of_experts(saliency.per_token(total))
        yield Note(name="reap.scores", data=scores)
        yield from keep_highest(model, scores, kept)
