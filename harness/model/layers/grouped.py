"""Matrix products of rows sorted by expert with one matrix per expert."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_ALIGNMENT = 16
"""Bytes: what `grouped_mm` asks of the strides of its operands."""


def grouped_linear(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """x_r W_e^T for every row r, e its expert.

    Args:
        x: [rows, inputs], sorted by expert.
        weight: [experts, outputs, inputs].
        offsets: int32 [experts]: where each expert's rows end; the last is the number of rows.

    Returns:
        [rows, outputs].
    """
    outputs, inputs = weight.shape[1:]
    size = weight.element_size()
    if inputs * size % _ALIGNMENT == 0 and outputs * size % _ALIGNMENT == 0:
        out: Tensor = F.grouped_mm(x.contiguous(), weight.transpose(-2, -1), offs=offsets)
        return out
    ends = offsets.tolist()
    parts = [
        F.linear(x[start:end], weight[expert])
        for expert, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
    ]
    return torch.cat(parts)
