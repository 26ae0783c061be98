"""Matrix products of rows sorted by expert with one matrix per expert."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_ALIGNMENT = 16
"""Bytes: what `grouped_mm` asks of the strides of its operands."""


def takes(sizes: Iterable[int], dtype: torch.dtype) -> bool:
    """True if `grouped_mm` takes matrices of these numbers of inputs and outputs."""
    return all(size * dtype.itemsize % _ALIGNMENT == 0 for size in sizes)


def choose_experts(config: Any, asked: str | None, dtype: torch.dtype) -> None:
    """Have transformers' experts run as was asked, or one by one where `grouped_mm` cannot.

    Args:
        config: Of the model; changed in place.
        asked: transformers' experts implementation; None for models without experts.
        dtype: Of the weights.
    """
    if asked != "grouped_mm":
        return
    inner = getattr(config, "moe_intermediate_size", None) or config.intermediate_size
    fits = takes((config.hidden_size, inner), dtype)
    config._experts_implementation = asked if fits else "eager"


def grouped_linear(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """x_r W_e^T for every row r, e its expert.

    Args:
        x: [rows, inputs], sorted by expert.
        weight: [experts, outputs, inputs].
        offsets: int32 [experts]: where each expert's rows end; the last is the number of rows.

    Returns:
        [rows, outputs].
    """
    if takes(weight.shape[1:], weight.dtype):
        out: Tensor = F.grouped_mm(x.contiguous(), weight.transpose(-2, -1), offs=offsets)
        return out
    ends = offsets.tolist()
    parts = [
        F.linear(x[start:end], weight[expert])
        for expert, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
    ]
    return torch.cat(parts)
