"""Balanced clustering: groups of equal size, whose members point in similar directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor

ROUNDS = 6


def balanced(points: Tensor, groups: int, generator: Generator) -> Tensor:
    """Divide points into groups of equal size; k-means on the sphere, with room for so many.

    Args:
        points: Of length one, float32 [points, features]; the groups divide their number.
        groups: Number of groups.
        generator: Draws the first centres among the points.

    Returns:
        The numbers of each group's points in rising order, int64 [groups, points / groups].
    """
    import torch
    from torch.nn.functional import normalize

    drawn = torch.randperm(len(points), generator=generator)[:groups]
    centres = points[drawn]
    members = drawn[:, None]
    for _ in range(ROUNDS):
        members = _assign(points @ centres.T).argsort(stable=True).view(groups, -1)
        centres = normalize(points[members].mean(1), dim=1)
    return members


def _assign(similarity: Tensor) -> Tensor:
    """The group of every point: the nearest with room, the nearest points first.

    Args:
        similarity: Of points to centres, float32 [points, groups].

    Returns:
        int64 [points].
    """
    import torch

    points, groups = similarity.shape
    room = torch.full((groups,), points // groups)
    chosen = torch.full((points,), -1)
    while len(free := (chosen < 0).nonzero().flatten()):
        nearness, wanted = similarity[free].masked_fill(room == 0, -torch.inf).max(1)
        order = nearness.argsort(descending=True, stable=True)
        order = order[wanted[order].argsort(stable=True)]  # by group, and the nearest first
        asked = torch.bincount(wanted, minlength=groups)
        rank = torch.arange(len(order)) - (asked.cumsum(0) - asked)[wanted[order]]
        taken = order[rank < room[wanted[order]]]
        chosen[free[taken]] = wanted[taken]
        room -= torch.bincount(wanted[taken], minlength=groups)
    return chosen
