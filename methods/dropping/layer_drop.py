"""C-MoE Layer Drop: the MoE layers that change the residual stream least."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from torch import Tensor

from harness.method import (
    Calibration,
    DropBudget,
    DropMoE,
    Edit,
    Method,
    MoEModel,
    Note,
    Similarity,
)


class LayerDrop(DropBudget, Method):
    """Layer Drop (He et al. 2024, arXiv 2406.02500, section 3.3).

    MoE layers are ranked by the mean cosine similarity, over calibration tokens of the original
    model, of the residual stream before and after the layer (`norm-moe`, S^NM), or of the layer's
    normalised input and its output without the residual (`moe`, S^M). The most similar go, with
    their norm, routed and shared experts; attention stays. The score chooses only the order. In a
    dense model the layers are the MLPs of its blocks.

    Deviations: similarities are accumulated in fp64, where the authors' code rounds to bf16 for
    more than 64 samples per process. `rescore` is ours.
    """

    name: ClassVar[str] = "layer-drop"
    reference: ClassVar[str] = "He et al. 2024, arXiv 2406.02500: highest cos(h, h + MoE(norm(h)))"

    score: Literal["norm-moe", "moe"] = "norm-moe"
    """Similarity that ranks the layers: with the norm and the residual, or of the MoE layer
    alone."""
    rescore: bool = False
    """Drop one layer at a time, and take the similarities of those left again, through the model
    as it is, after each: one pass per layer dropped."""
    bf16_similarity: bool = False
    """Compatibility: states, the cosine of each token and their mean are rounded to bf16. C-MoE
    does so with more than 64 calibration samples per process, which puts similarities in steps of
    up to 0.004 and makes ties; for matching its rows only."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield DropMoE for the most similar layers, most similar first; then the similarities.

        A layer's similarity in the note is the last one taken while it was there.
        """
        layers = self._layers(model)
        count = self.dropped(len(layers), "MoE layers" if model.experts else "MLPs")
        similar = self._similarities(model, calibration, layers)
        for place in range(count):
            if self.rescore and place:
                similar |= self._similarities(model, calibration, layers)
            chosen = max(layers, key=similar.__getitem__)
            layers.remove(chosen)
            yield DropMoE(block=chosen)
        yield Note(name="layer-drop.similarity", data=similar)

    def _layers(self, model: MoEModel) -> list[int]:
        if model.experts:
            return [block.index for block in model.moe_blocks()]
        return [block.index for block in model.blocks if block.matrices("dense")]

    def _similarities(
        self, model: MoEModel, calibration: Calibration, layers: list[int]
    ) -> dict[int, float]:
        similar = {}
        for block in calibration.walk(model):
            if block.index in layers:
                cosines = block.collect(Similarity(bf16=self.bf16_similarity))
                total = cosines.residual if self.score == "norm-moe" else cosines.layer
                similar[block.index] = self._mean(total, cosines.tokens)
        return similar

    def _mean(self, total: Tensor, tokens: Tensor) -> float:
        mean = total / tokens.clamp_min(1)
        return float(mean.bfloat16() if self.bf16_similarity else mean)
