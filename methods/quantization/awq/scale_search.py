"""AWQ's search for the scales with which a producer's readers round with the least error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from harness.method import Refused, Scheme, fit, grouped, nearest

LEAST = 1e-4
"""Least |x| of a channel, as a share of the average; below it a channel is taken to have it."""

Pairs = Sequence[tuple[Tensor, Tensor]]
"""Stacks of weights W, fp32 [producers, readers, outputs, inputs], and of the moments H of their
inputs, fp32 [producers, readers, inputs, inputs]."""


def search(
    magnitude: Tensor, pairs: Pairs, scheme: Scheme, dtype: torch.dtype, *, ratios: int, duo: bool
) -> tuple[list[float | None], Tensor]:
    """Return the ratio r and the scales s with the least squared error, for each producer.

    sum over readers of tr(D H D^T), D = Q(W s) / s - W: what their outputs on the calibration
    tokens are off by, without running one of them again. Ties go to the smaller ratio; no ratio,
    `None`, is no scaling.

    Args:
        magnitude: Sum or mean of |x| of every channel, as in `candidates`.
        pairs: Readers that are rounded.
        scheme: Bits, group, symmetry.
        dtype: Dtype of the model, in which grids are stored.
        ratios: Number of ratios, as in `candidates`.
        duo: True if the weights have a say in the scales.

    Returns:
        The ratios, and the scales, fp32 [producers, inputs].

    Raises:
        Refused: the errors are not finite.
    """
    share = _share([weight for weight, _ in pairs], scheme) if duo else None
    tried: list[float | None] = []
    scales = torch.ones_like(magnitude, dtype=torch.float32)
    least = magnitude.new_full((len(magnitude),), torch.inf, dtype=torch.float64)
    place = torch.zeros_like(least, dtype=torch.int64)
    for ratio, scale in candidates(magnitude, share, ratios):
        error = sum(
            (_error(scale, *pair, scheme, dtype) for pair in pairs), torch.zeros_like(least)
        )
        better = error < least
        least = error.where(better, least)
        place = place.masked_fill(better, len(tried))
        scales = scale.where(better[:, None], scales)
        tried.append(ratio)
    if not bool(least.isfinite().all()):
        raise Refused("what the model gives on the calibration tokens is not finite; check both.")
    return [tried[best] for best in place.tolist()], scales


def candidates(
    magnitude: Tensor, share: Tensor | None, ratios: int
) -> Iterator[tuple[float | None, Tensor]]:
    """Yield no scaling, then s for each ratio, fp32 [producers, inputs], over sqrt(max s min s).

    s = m^r, m the mean of |x|, as in the authors' code; with `share`, as in AutoAWQ,
    s = m^r / (share^(1 - r) + 1e-4).

    Args:
        magnitude: Sum or mean of |x| of every channel, [producers, inputs].
        share: Mean size of the weights beside the largest of their group, [producers, inputs]; None
            if it has no say.
        ratios: Number of ratios, from 0 in steps of 1 / ratios. Without `share` the first is no
            scaling.
    """
    average = magnitude.mean(-1, keepdim=True).clamp_min(torch.finfo(magnitude.dtype).tiny)
    mean = (magnitude / average).clamp_min(LEAST).float()
    yield None, torch.ones_like(mean)
    for step in range(share is None, ratios):
        ratio = step / ratios
        scale = mean**ratio
        if share is not None:
            scale = (scale / (share ** (1 - ratio) + 1e-4)).clamp_min(LEAST)
        yield ratio, scale / (scale.amax(-1, True) * scale.amin(-1, True)).sqrt()


def simulated(values: Tensor, scheme: Scheme, dtype: torch.dtype) -> Tensor:
    """Return every value at the nearest point of its group's grid.

    Args:
        values: fp32 [..., groups, size of a group].
        scheme: Bits, symmetry.
        dtype: Dtype of the model, in which grids are stored.
    """
    scales, zeros = (part[..., None] for part in fit(values, scheme, dtype))
    return nearest(values, scales, zeros, scheme.levels).sub_(zeros).mul_(scales)


def _error(
    scale: Tensor, weight: Tensor, moment: Tensor, scheme: Scheme, dtype: torch.dtype
) -> Tensor:
    """tr(D H D^T) summed over the readers in one stack, fp64 [producers]."""
    scale = scale[:, None, None]
    on_grid = simulated(grouped(weight * scale, scheme), scheme, dtype)
    wrong = on_grid.flatten(-2)[..., : weight.shape[-1]].div_(scale).sub_(weight)
    return ((wrong @ moment) * wrong).sum((-2, -1)).double().sum(-1)


def _share(weights: Sequence[Tensor], scheme: Scheme) -> Tensor:
    """Mean over the rows of all readers of |W| / (max |W| of its group), [producers, inputs]."""
    inputs = weights[0].shape[-1]
    rows = []
    for weight in weights:
        size = grouped(weight.abs(), scheme)  # [producers, readers, outputs, groups, size]
        relative = size / (size.amax(-1, keepdim=True) + 1e-6)
        rows.append(relative.flatten(-2)[..., :inputs].flatten(1, 2))
    return torch.cat(rows, 1).mean(1)
