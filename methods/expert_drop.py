"""C-MoE Expert Drop: the experts the router gives least weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch

from harness.budget import KeepBudget
from harness.calibration.statistics import RouterMass
from harness.calibration.walk import Calibration
from harness.edits import DropMoE, Edit, KeepExperts
from harness.method import Method, Note
from harness.model.view import MoEModel


class ExpertDrop(KeepBudget, Method):
    """Expert Drop (He et al. 2024, arXiv 2406.02500, section 3.2).

    An expert's score is the router's softmax weight for it, summed over all calibration tokens of
    the original model. The lowest scores go: the same number in every layer, or (`scope =
    "global"`) round(layers x (experts - keep)) of all layers together. There a layer may keep
    fewer than top-k, and its top-k becomes what is left; a layer that keeps none loses its whole
    MoE sublayer, shared experts included.

    Deviations: the authors' code sums only the chosen experts' weights on DeepSeek; here that is
    `scores = "routed"`, on any family. Where they leave a layer without experts they add the norm
    of its input to the residual stream; here nothing is added.
    """

    name: ClassVar[str] = "expert-drop"
    reference: ClassVar[str] = "He et al. 2024, arXiv 2406.02500: lowest sum_t softmax(router)_e"

    scope: Literal["layerwise", "global"] = "layerwise"
    """Equally many from every layer, or the lowest scores of the whole model."""
    scores: Literal["softmax", "routed"] = "softmax"
    """The full softmax, or only the weights of the experts chosen."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield KeepExperts, or DropMoE for a layer that keeps none."""
        kept = {
            block.index: self.kept(len(block.experts), block.top_k, where=f"block {block.index}")
            for block in model.moe_blocks()
        }
        scores: dict[int, dict[int, float]] = {}
        for block in calibration.walk(model):
            if block.index in kept:
                mass = block.collect(RouterMass(routed=self.scores == "routed")).mass.tolist()
                scores[block.index] = {expert: mass[expert] for expert in block.experts}
        yield Note(name="expert-drop.scores", data=scores)
        for index, dropped in self._dropped(scores, kept).items():
            left = tuple(expert for expert in scores[index] if expert not in dropped)
            if not left:
                yield DropMoE(block=index)
            elif dropped:
                yield KeepExperts(block=index, experts=left)

    def _dropped(
        self, scores: dict[int, dict[int, float]], kept: dict[int, int]
    ) -> dict[int, set[int]]:
        if self.scope == "layerwise":
            return {
                index: set(sorted(layer, key=layer.__getitem__)[: len(layer) - kept[index]])
                for index, layer in scores.items()
            }
        everywhere = [(index, expert) for index, layer in scores.items() for expert in layer]
        values = torch.tensor([scores[index][expert] for index, expert in everywhere])
        count = len(everywhere) - sum(kept.values())
        order = values.sort(stable=True).indices[:count].tolist()
        dropped: dict[int, set[int]] = {index: set() for index in scores}
        for place in order:
            index, expert = everywhere[place]
            dropped[index].add(expert)
        return dropped
