"""Grids: the points where the values of a quantized matrix may lie, and rounding to them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.model.quantized.scheme import Quantized, Scheme

SHARES = tuple(1 - step / 100 for step in range(80))
"""Shares of a group's range that the search tries ("grid" 100, "maxshrink" .8 in GPTQ's code)."""
NORM = 2.4
"""Exponent of the error that the search makes least, as in GPTQ's code."""


def fit(
    values: Tensor, scheme: Scheme, dtype: torch.dtype, *, search: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the grid of every group, as in GPTQ's code (Frantar et al. 2023, `Quantizer`).

    Asymmetric: scale = (max - min) / (levels - 1) and zero = round(-min / scale), min <= 0 <= max.
    Symmetric: scale = 2 max|w| / (levels - 1) and zero = levels / 2. All zeros: the range is
    [-1, 1]. With `search` the range is shrunk to the share in `SHARES` of least sum |w - q|^2.4.

    Deviations: the scale is rounded to `dtype` first, and zero and codes follow from what is
    stored; a scale that rounds to 0 becomes the least normal number. A symmetric group without a
    negative weight has its zero in the middle too; the authors leave its range at [0, max], of
    which a zero in the middle clips the upper half.

    Args:
        values: fp32 or fp64 [..., size of a group].
        scheme: Bits and symmetry.
        dtype: Dtype of the model, in which scales are stored.
        search: True to search the range.

    Returns:
        Scales and zeros, [...] each, in the dtype of `values`; zeros are whole numbers.
    """
    low, high = values.amin(-1).clamp_max(0.0), values.amax(-1).clamp_min(0.0)
    if scheme.symmetric:
        high = high.maximum(-low)
        low = -high
    empty = low == high
    low, high = low.masked_fill(empty, -1.0), high.masked_fill(empty, 1.0)
    scales, zeros = _grid(low, high, scheme, dtype)
    if not search:
        return scales, zeros
    least = torch.full_like(low, torch.inf)
    for share in SHARES:
        scale, zero = _grid(low * share, high * share, scheme, dtype)
        codes = nearest(values, scale[..., None], zero[..., None], scheme.levels)
        rounded = codes.sub_(zero[..., None]).mul_(scale[..., None])
        error = rounded.sub_(values).abs_().pow_(NORM).sum(-1)
        better = error < least
        least = error.where(better, least)
        scales, zeros = scale.where(better, scales), zero.where(better, zeros)
    return scales, zeros


def nearest(values: Tensor, scales: Tensor, zeros: Tensor, levels: int) -> Tensor:
    """Return codes of the nearest points, 0 to levels - 1, in the dtype of `values`; broadcasts."""
    return (values / scales).round_().add_(zeros).clamp_(0, levels - 1)


def grouped(weight: Tensor, scheme: Scheme) -> Tensor:
    """Return [..., outputs, inputs] as [..., outputs, groups, size], filled up with zeros.

    Zeros move no grid: every range holds 0, and 0 is a point of every grid.
    """
    inputs = weight.shape[-1]
    groups = scheme.groups(inputs)
    size = scheme.group or inputs
    padded = F.pad(weight, (0, groups * size - inputs))
    return padded.reshape(*weight.shape[:-1], groups, size)


def rounded(
    weight: Tensor, scheme: Scheme, *, search: bool = False, dtype: torch.dtype | None = None
) -> Quantized:
    """Return the weight with every value rounded to the nearest point of its group's grid.

    Args:
        weight: [..., outputs, inputs], floating point.
        scheme: Bits, group, symmetry.
        search: True to search the range, as in `fit`.
        dtype: Dtype in which scales are stored; default: the weight's.
    """
    dtype = weight.dtype if dtype is None else dtype
    if weight.is_meta:  # a dry run of thousands of matrices
        return Quantized.blank(scheme, weight.shape, weight.to(dtype))
    exact = weight if weight.dtype == torch.float64 else weight.float()
    values = grouped(exact, scheme)  # [..., outputs, groups, size]
    scales, zeros = fit(values, scheme, dtype, search=search)  # [..., outputs, groups]
    codes = nearest(values, scales[..., None], zeros[..., None], scheme.levels)
    flat = codes.flatten(-2)[..., : weight.shape[-1]]  # [..., outputs, inputs]
    return assembled(flat, scales, zeros, scheme, dtype)


def assembled(
    codes: Tensor, scales: Tensor, zeros: Tensor, scheme: Scheme, dtype: torch.dtype
) -> Quantized:
    """Return codes and grids, given in any dtype, as they are stored.

    Args:
        codes: [..., outputs, inputs].
        scales: [..., outputs, groups], values that `dtype` can hold.
        zeros: [..., outputs, groups].
        scheme: Bits, group, symmetry.
        dtype: Dtype of the model.
    """
    stored = None if scheme.symmetric else zeros.to(torch.uint8)
    return Quantized.of(codes.to(torch.uint8), scales.to(dtype), stored, scheme)


def _grid(low: Tensor, high: Tensor, scheme: Scheme, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Scales and zeros of the ranges from low <= 0 to high >= 0."""
    stored = ((high - low) / (scheme.levels - 1)).to(dtype)
    scales = stored.masked_fill(stored == 0, torch.finfo(dtype).tiny).to(low)
    if scheme.symmetric:
        return scales, torch.full_like(low, scheme.levels // 2)
    return scales, (-low / scales).round_().clamp_(0, scheme.levels - 1)
