"""C-MoE Layer Drop: the MoE layers that change the residual stream least."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from harness.budget import DropBudget
from harness.calibration.statistics import Similarity
from harness.calibration.walk import Calibration
from harness.edits import DropMoE, Edit
from harness.method import Method, Note
from harness.model.view import MoEModel


class LayerDrop(DropBudget, Method):
    """Layer Drop (He et al. 2024, arXiv 2406.02500, section 3.3), one-shot.

    MoE layers are ranked by the mean cosine similarity, over calibration tokens of the original
    model, of the residual stream before and after the layer (`norm-moe`, S^NM), or of the layer's
    normalised input and its output without the residual (`moe`, S^M). The most similar go, with
    their norm, routed and shared experts; attention stays. The score chooses only the order.

    Deviations: similarities are accumulated in fp64, where the authors' code rounds to bf16 for
    more than 64 samples per process.
    """

    name: ClassVar[str] = "layer-drop"
    reference: ClassVar[str] = "He et al. 2024, arXiv 2406.02500: highest cos(h, h + MoE(norm(h)))"

    score: Literal["norm-moe", "moe"] = "norm-moe"
    """With the norm and the residual, or the MoE layer alone."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield DropMoE for the most similar layers, most similar first."""
        layers = [block.index for block in model.moe_blocks()]
        count = self.dropped(len(layers), "MoE layers")
        similar: dict[int, float] = {}
        for block in calibration.walk(model):
            if block.index in layers:
                cosines = block.collect(Similarity())
                total = cosines.residual if self.score == "norm-moe" else cosines.layer
                similar[block.index] = float(total) / max(int(cosines.tokens), 1)
        yield Note(name="layer-drop.similarity", data=similar)
        for index in sorted(similar, key=similar.__getitem__, reverse=True)[:count]:
            yield DropMoE(block=index)
