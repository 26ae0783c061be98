"""Is a quantized matrix the one that was to be quantized?"""

from __future__ import annotations

from torch import Tensor

MOST = 0.95
"""Largest relative error: random values have 1.4, or 0.98 and more once scales are fitted."""
_ROUNDS = 4


def error(weight: Tensor, quantized: Tensor, *, scaled: bool = False) -> float:
    """||W - Q|| / ||W||, summed in fp32; infinite for a Q that is not finite.

    Args:
        weight: W, [outputs, inputs].
        quantized: Q, of the same shape.
        scaled: Fit a factor to every column and every row of Q first: AWQ moves scales from one
            matrix into another, and only the product of both is what it was.
    """
    whole, other = weight.float(), quantized.float()
    if not bool(other.isfinite().all()):
        return float("inf")
    for _ in range(_ROUNDS if scaled else 0):
        for dim in (0, 1):  # least squares, column by column, then row by row
            factor = (whole * other).sum(dim, keepdim=True)
            other = other * (factor / other.square().sum(dim, keepdim=True).clamp_min(1e-30))
    return float((whole - other).norm() / whole.norm().clamp_min(1e-30))
