"""M-SMoE: experts that the router treats alike are merged into the most used of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor

from harness.method import (
    Calibration,
    Edit,
    KeepBudget,
    MergeExperts,
    Method,
    MoEModel,
    Note,
    Refused,
    RouterSimilarity,
    TokenCount,
)


class MSMoE(KeepBudget, Method):
    """M-SMoE, the merging of MC-SMoE (Li et al. 2024, arXiv 2310.01334), one-shot.

    An expert's usage is its part of the layer's routed calibration tokens. The most used expert of
    every layer and then the most used of all layers together are dominant, `keep` per layer on
    average. Every other expert joins the dominant expert of its layer whose router logits have the
    highest cosine with its own over the tokens, and each group becomes the mean of its members'
    weights, weighted by usage. The router keeps its rows: two of a token's chosen experts may lead
    to one merged expert, which then runs once with both weights.

    Deviations: no permutation alignment, as in the authors' code for Mixtral; usages that tie at
    the threshold are taken in order up to the budget, where the authors' code drops them all; a
    group that saw no token is averaged with equal weights; merged experts are stored once.
    """

    name: ClassVar[str] = "m-smoe"
    reference: ClassVar[str] = "Li et al. 2024, arXiv 2310.01334: sum_e usage_e W_e / sum_e usage_e"

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one MergeExperts per MoE layer that has experts to merge."""
        for block in model.moe_blocks():
            if sum(row in block.experts for row in block.rows) > len(block.experts):
                raise Refused(
                    f"block {block.index} has merged experts, to which several rows of the router "
                    "lead; m-smoe compares single rows, use it before other merging."
                )
        total = sum(self.plan(model, least=1, even=False).values())
        similarities: dict[int, RouterSimilarity] = {}
        tokens: dict[int, TokenCount] = {}
        for block in calibration.walk(model):
            if block.experts:
                tokens[block.index] = counts = TokenCount()
                similarities[block.index] = block.collect(RouterSimilarity(), counts)
        leaders = dominant(tokens, total)
        groups = {
            index: joined(leaders[index], tokens[index].experts, similarity.cosines())
            for index, similarity in similarities.items()
        }
        yield Note(name="m-smoe.groups", data=groups)
        for index, merged in groups.items():
            if any(len(group) > 1 for group in merged):
                count = tokens[index].count.tolist()
                weights = tuple(tuple(count[expert] for expert in group) for group in merged)
                yield MergeExperts(block=index, groups=merged, weights=weights)


def dominant(tokens: Mapping[int, TokenCount], total: int) -> dict[int, list[int]]:
    """Return the dominant experts of every block, most used first.

    Of a tie, experts higher up in their own layer come first, then those of earlier blocks: without
    tokens all layers get equally many.

    Args:
        tokens: Tokens routed to each expert, by block.
        total: Number of dominant experts of all blocks together, at least one of each.
    """
    ranked: list[tuple[float, int, int, int]] = []  # (-usage, place, block, expert)
    for index, counts in tokens.items():
        usage = (counts.count.double() / counts.count.sum().clamp_min(1)).tolist()
        order = sorted(counts.experts, key=usage.__getitem__, reverse=True)
        for place, expert in enumerate(order):
            ranked.append((-usage[expert] if place else -1.0, place, index, expert))
    chosen: dict[int, list[int]] = {index: [] for index in tokens}
    for _, _, index, expert in sorted(ranked)[:total]:
        chosen[index].append(expert)
    return chosen


def joined(
    leaders: list[int], experts: tuple[int, ...], cosines: Tensor
) -> tuple[tuple[int, ...], ...]:
    """Return each leader with the experts most similar to it, the leader first.

    Args:
        leaders: Dominant experts of a layer.
        experts: All experts of the layer.
        cosines: Cosine of the router logits of every two experts, fp64 [base, base].
    """
    members = {leader: [leader] for leader in leaders}
    for expert in experts:
        if expert not in members:
            nearest = leaders[int(cosines[expert, leaders].argmax())]
            members[nearest].append(expert)
    return tuple(tuple(group) for group in members.values())
