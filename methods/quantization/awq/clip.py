"""AWQ's clipping: ranges that are cut off where that lowers the error."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.method import Scheme, grouped
from methods.quantization.awq.scale_search import simulated


def clipped(
    weight: Tensor,
    moment: Tensor,
    scheme: Scheme,
    dtype: torch.dtype,
    *,
    shrink: float,
    steps: int,
) -> Tensor:
    """Return the weight with the large values of some groups cut off, to be rounded.

    Each group of each row gets, of 1, 1 - 1 / steps, ... down to above 1 - `shrink`, the share of
    its largest |w| with the least d^T H_g d: d what rounding the group then does to it, H_g the
    moments of its inputs. So the authors measure it, on 512 tokens; here it is over all tokens,
    and few of them are no special case. Then, as groups err together, a row is cut off only where
    its whole output gains: where d^T H d falls, too.

    Args:
        weight: fp32 [..., outputs, inputs].
        moment: H, fp32 [..., inputs, inputs], of the inputs that the weight multiplies.
        scheme: Bits, group, symmetry.
        dtype: Dtype of the model, in which grids are stored.
        shrink: Largest share that is cut off.
        steps: Number of steps from the largest |w| to 0.
    """
    inputs = weight.shape[-1]
    values = grouped(weight, scheme)  # [..., outputs, groups, size]
    blocks = _diagonal_blocks(moment, *values.shape[-2:])  # [..., groups, size, size]
    peaks = values.abs().amax(-1, keepdim=True)  # [..., outputs, groups, 1]
    limits, least = peaks, torch.full_like(peaks, torch.inf)
    for step in range(max(1, int(shrink * steps))):
        limit = peaks * (1 - step / steps)
        wrong = simulated(values.clamp(-limit, limit), scheme, dtype).sub_(values)
        products = (wrong.transpose(-3, -2) @ blocks).transpose(-3, -2)
        error = products.mul_(wrong).sum(-1, keepdim=True)
        better = error < least
        least, limits = error.where(better, least), limit.where(better, limits)

    def output_error(weights: Tensor) -> Tensor:
        """d^T H d of every row, [..., outputs]."""
        wrong = (simulated(weights, scheme, dtype) - values).flatten(-2)[..., :inputs]
        return ((wrong @ moment) * wrong).sum(-1)

    cut = values.clamp(-limits, limits)
    gains = (output_error(cut) < output_error(values))[..., None, None]
    return cut.where(gains, values).flatten(-2)[..., :inputs]


def _diagonal_blocks(moment: Tensor, groups: int, size: int) -> Tensor:
    """The moments of each group's own inputs, [..., groups, size, size]; 0 past the last input."""
    missing = groups * size - moment.shape[-1]
    padded = F.pad(moment, (0, missing, 0, missing))
    cut = padded.reshape(*moment.shape[:-2], groups, size, groups, size)
    return cut.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)
