"""Experts kept by score, one score per expert."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.model.edits import KeepExperts

if TYPE_CHECKING:
    from harness.model.view import MoEModel


def highest(
    scores: Mapping[int, float], count: int, groups: Sequence[Sequence[int]] = ()
) -> tuple[int, ...]:
    """Return the `count` experts that score highest, in ascending order; of a tie the later ones.

    Args:
        scores: Scores by expert.
        count: From 0 to len(scores).
        groups: Groups of experts, of each of which equally many stay; one of all by default.
    """
    ascending = sorted(scores, key=scores.__getitem__)
    return first(ascending[::-1], count, groups)


def first(
    order: Sequence[int], count: int, groups: Sequence[Sequence[int]] = ()
) -> tuple[int, ...]:
    """Return the first `count` experts of an order, equally many of each group, ascending.

    Args:
        order: Experts.
        count: From 0 to len(order), a multiple of the number of groups.
        groups: Groups of experts, as `Block.groups` gives them; one of all by default.
    """
    each = count // max(1, len(groups))
    parts = [[expert for expert in order if expert in group] for group in groups or [order]]
    return tuple(sorted(expert for part in parts for expert in part[:each]))


def keep_highest(
    model: MoEModel, scores: Mapping[int, Mapping[int, float]], kept: Mapping[int, int]
) -> Iterator[KeepExperts]:
    """Yield one KeepExperts for every layer that loses some; the lowest scores go.

    Equally many of each group go where a router is group-limited (DeepSeek-V2).

    Args:
        model: The model that is to lose experts.
        scores: Scores by block and expert.
        kept: Number of experts kept, by block, as `KeepBudget.plan` gives it.
    """
    groups = {block.index: block.groups for block in model.moe_blocks()}
    for block, layer in scores.items():
        if kept[block] < len(layer):
            yield KeepExperts(block=block, experts=highest(layer, kept[block], groups[block]))
