"""C-MoE Expert Drop: the experts the router gives least weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from harness.method import (
    Calibration,
    DropMoE,
    Edit,
    KeepBudget,
    KeepExperts,
    LiveBlock,
    Method,
    MoEModel,
    Note,
    RouterMass,
)

Scores = dict[int, dict[int, float]]
"""Scores by block and expert."""


class ExpertDrop(KeepBudget, Method):
    """Expert Drop (He et al. 2024, arXiv 2406.02500, section 3.2).

    An expert's score is the router's softmax weight for it, summed over all calibration tokens of
    the original model. The lowest scores go: the same number in every layer, or (`scope =
    "global"`) round(layers x (experts - keep)) of all layers together. There a layer may keep
    fewer than top-k, and its top-k becomes what is left; a layer that keeps none loses its whole
    MoE sublayer, shared experts included.

    Deviations: the authors' code sums only the chosen experts' weights on DeepSeek; here that is
    `scores = "routed"`, on any family. Where they leave a layer without experts they add the norm
    of its input to the residual stream; here nothing is added. `rescore` and `router = "mask"` are
    ours.
    """

    name: ClassVar[str] = "expert-drop"
    reference: ClassVar[str] = "He et al. 2024, arXiv 2406.02500: lowest sum_t softmax(router)_e"

    scope: Literal["layerwise", "global"] = "layerwise"
    """Scope of the ranking: equally many experts go from every layer ("layerwise"), or those of the
    lowest scores in the whole model ("global")."""
    scores: Literal["softmax", "routed"] = "softmax"
    """Weights that are summed: the full softmax, or only those of the experts chosen."""
    router: Literal["rows", "mask", "preserve"] = "rows"
    """Fate of the dropped experts' router rows: cut ("rows"); masked after the softmax, so that the
    weights of the others stay what they were ("mask"); or preserved, and what is routed to a
    dropped expert adds nothing (the authors' preserve_gate)."""
    rescore: bool = False
    """Drop one expert at a time and take scores again after each. Layerwise: block by block, each
    on the states that the blocks already pruned give; a block is run once more per expert it
    loses. Global: one pass through the model per expert dropped."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield KeepExperts, or DropMoE for a layer that keeps none; then the scores.

        An expert's score in the note is the last one taken while it was there.
        """
        drops = self.plan_drops(model)
        scores: Scores = {}
        if not self.rescore:
            yield from self._at_once(model, calibration, drops, scores)
        elif self.scope == "layerwise":
            yield from self._block_by_block(model, calibration, drops, scores)
        else:
            yield from self._one_of_all(model, calibration, sum(drops.values()), scores)
        yield Note(name="expert-drop.scores", data=scores)

    def _at_once(
        self, model: MoEModel, calibration: Calibration, drops: dict[int, int], scores: Scores
    ) -> Iterator[Edit]:
        self._rescore(model, calibration, scores)
        if self.scope == "layerwise":
            dropped = {
                (index, expert)
                for index, layer in scores.items()
                for expert in sorted(layer, key=layer.__getitem__)[: drops[index]]
            }
        else:
            dropped = set(_ascending(scores)[: sum(drops.values())])
        for index, layer in scores.items():
            left = tuple(expert for expert in layer if (index, expert) not in dropped)
            if len(left) < len(layer):
                yield self._edit(index, left)

    def _block_by_block(
        self, model: MoEModel, calibration: Calibration, drops: dict[int, int], scores: Scores
    ) -> Iterator[Edit]:
        for block in calibration.walk(model):
            if not block.experts:
                continue
            layer = scores[block.index] = self._block_scores(block)
            for _ in range(drops[block.index]):
                worst = min(block.experts, key=layer.__getitem__)
                yield self._edit(block.index, tuple(e for e in block.experts if e != worst))
                layer |= self._block_scores(block)

    def _one_of_all(
        self, model: MoEModel, calibration: Calibration, count: int, scores: Scores
    ) -> Iterator[Edit]:
        for _ in range(count):
            self._rescore(model, calibration, scores)
            left = {block.index: block.experts for block in model.moe_blocks()}
            index, worst = next(
                (block, expert)
                for block, expert in _ascending(scores)
                if expert in left.get(block, ())
            )
            yield self._edit(index, tuple(e for e in left[index] if e != worst))
        self._rescore(model, calibration, scores)

    def _edit(self, index: int, left: tuple[int, ...]) -> Edit:
        if not left:
            return DropMoE(block=index)
        return KeepExperts(block=index, experts=left, router=self.router)

    def _rescore(self, model: MoEModel, calibration: Calibration, scores: Scores) -> None:
        """Add the scores that the model gives now."""
        for block in calibration.walk(model):
            if block.experts:
                scores.setdefault(block.index, {}).update(self._block_scores(block))

    def _block_scores(self, block: LiveBlock) -> dict[int, float]:
        mass = block.collect(RouterMass(routed=self.scores == "routed")).mass.tolist()
        return {expert: mass[expert] for expert in block.experts}


def _ascending(scores: Scores) -> list[tuple[int, int]]:
    """(block, expert), the lowest score first; of a tie the first."""
    everywhere = [(index, expert) for index, layer in scores.items() for expert in layer]
    return sorted(everywhere, key=lambda place: scores[place[0]][place[1]])
