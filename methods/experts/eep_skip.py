"""EEP's dynamic skipping: experts that matter little to a token are not computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from harness.method import (
    Calibration,
    Edit,
    Method,
    MoEModel,
    Note,
    Refused,
    SkipExperts,
    TopRatios,
)


class EEPSkip(Method):
    """Dynamic expert skipping (Lu et al. 2024, arXiv 2402.14800, section 3.2).

    A token skips its second expert when p_2 < beta p_1, p the router's softmax; the weight left
    becomes the whole. Per layer, beta is the median of p_2 / p_1 over the calibration tokens, so
    that about half of them run one expert. Works on a pruned model, and the threshold is of the
    model as it is then.

    Deviations: with top-k above 2, which the paper does not treat, beta is the median of all ratios
    p_i / p_1, i = 2..k, and every expert below it is skipped (ours). Families that do not
    renormalise keep the remaining coefficients as they are.
    """

    name: ClassVar[str] = "eep-skip"
    reference: ClassVar[str] = "Lu et al. 2024, arXiv 2402.14800: skip i where p_i < beta p_1"

    quantile: float = Field(default=0.5, ge=0, le=1)
    """Quantile of the ratios that is the threshold: the share of choices after the first that is
    skipped."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one SkipExperts per MoE layer, after all thresholds are known.

        A layer that chooses one expert per token has none to skip and stays as it is.
        """
        layers = model.moe_blocks()
        for block in layers:
            if block.beta is not None:
                raise Refused(f"block {block.index} skips experts already; set the threshold once.")
        if all(block.top_k < 2 for block in layers):
            raise Refused(f"{model.ref} chooses one expert per token: there is none to skip.")
        betas: dict[int, dict[str, float]] = {}
        for block in calibration.walk(model, follow="original"):
            if block.experts and block.top_k > 1:
                ratios = block.collect(TopRatios())
                betas[block.index] = {
                    "median": ratios.quantile(0.5),
                    "mean": ratios.mean(),
                    "beta": ratios.quantile(self.quantile),
                }
        yield Note(name="eep-skip.betas", data=betas)
        for index, layer in betas.items():
            yield SkipExperts(block=index, beta=layer["beta"])
