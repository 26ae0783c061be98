"""Experts kept by score, one score per expert."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.model.edits import KeepExperts


def highest(scores: Mapping[int, float], count: int) -> tuple[int, ...]:
    """Return the `count` experts that score highest, in ascending order; of a tie the later ones.

    Args:
        scores: Scores by expert.
        count: From 0 to len(scores).
    """
    ascending = sorted(scores, key=scores.__getitem__)
    return tuple(sorted(ascending[len(ascending) - count :]))


def keep_highest(
    scores: Mapping[int, Mapping[int, float]], kept: Mapping[int, int]
) -> Iterator[KeepExperts]:
    """Yield one KeepExperts for every layer that loses some; the lowest scores go.

    Args:
        scores: Scores by block and expert.
        kept: Number of experts kept, by block, as `KeepBudget.plan` gives it.
    """
    for block, layer in scores.items():
        if kept[block] < len(layer):
            yield KeepExperts(block=block, experts=highest(layer, kept[block]))
