"""C-MoE Expert Drop: the experts the router gives least weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple

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


class Together(NamedTuple):
    """Experts of a block that go together, and the sum of their scores."""

    block: int
    experts: tuple[int, ...]
    score: float


class ExpertDrop(KeepBudget, Method):
    """Expert Drop (He et al. 2024, arXiv 2406.02500, section 3.2).

    An expert's score is the router's softmax weight for it, summed over all calibration tokens of
    the original model. The lowest scores go: the same number in every layer, or (`scope =
    "global"`) round(layers x (experts - keep)) of all layers together. There a layer may keep
    fewer than top-k, and its top-k becomes what is left; a layer that keeps none loses its whole
    MoE sublayer, shared experts included.

    Where a router is group-limited and its rows are cut, experts go in sets of one of each group,
    the lowest of each first, and a set's score is the sum of theirs.

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
        drops = self.plan_drops(model, even=self.router == "rows")
        if self.router == "rows":
            yield from self.told(model)
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
        sets = self._sets(model, scores)
        if self.scope == "layerwise":
            going = [one for index in scores for one in _cheapest(sets, [index], drops[index])]
        else:
            going = _cheapest(sets, list(scores), sum(drops.values()))
        dropped = {(one.block, expert) for one in going for expert in one.experts}
        for index, layer in scores.items():
            left = tuple(expert for expert in layer if (index, expert) not in dropped)
            if len(left) < len(layer):
                yield self._edit(index, left)

    def _block_by_block(
        self, model: MoEModel, calibration: Calibration, drops: dict[int, int], scores: Scores
    ) -> Iterator[Edit]:
        left = {b.index: len(b.experts) - drops[b.index] for b in model.moe_blocks()}
        for block in calibration.walk(model):
            if not block.experts:
                continue
            layer = scores[block.index] = self._block_scores(block)
            while len(block.experts) > left[block.index]:
                here = {block.index: {expert: layer[expert] for expert in block.experts}}
                worst = min(self._sets(model, here), key=lambda one: one.score).experts
                yield self._edit(block.index, tuple(e for e in block.experts if e not in worst))
                layer |= self._block_scores(block)

    def _one_of_all(
        self, model: MoEModel, calibration: Calibration, count: int, scores: Scores
    ) -> Iterator[Edit]:
        while count > 0:
            self._rescore(model, calibration, scores)
            left = {block.index: block.experts for block in model.moe_blocks()}
            here = {index: {e: scores[index][e] for e in some} for index, some in left.items()}
            worst = min(self._sets(model, here), key=lambda one: one.score)
            count -= len(worst.experts)
            kept = tuple(e for e in left[worst.block] if e not in worst.experts)
            yield self._edit(worst.block, kept)
        self._rescore(model, calibration, scores)

    def _sets(self, model: MoEModel, scores: Scores) -> list[Together]:
        """The sets in which experts go, single ones but behind a group-limited router; by block."""
        groups = {block.index: block.groups for block in model.moe_blocks()}
        sets = []
        for index, layer in scores.items():
            even = self.router == "rows" and len(groups[index]) > 1
            parts = groups[index] if even else [list(layer)]
            ordered = [sorted(part, key=layer.__getitem__) for part in parts]
            for experts in zip(*ordered, strict=False):  # the lowest of each group, and so on
                sets.append(Together(index, experts, sum(layer[expert] for expert in experts)))
        return sets

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


def _cheapest(sets: list[Together], blocks: list[int], count: int) -> list[Together]:
    """The sets with the lowest scores of some blocks, of `count` experts in all; of a tie first."""
    here = [one for one in sets if one.block in blocks]
    size = len(here[0].experts) if here else 1
    return sorted(here, key=lambda one: one.score)[: count // size]
