"""Codes packed into 32-bit words, as GPTQ's and AWQ's checkpoints have them."""

from __future__ import annotations

import torch
from torch import Tensor

WORD = 32
_ORDER = [0, 4, 1, 5, 2, 6, 3, 7]
"""The places at which the eight codes of a word of AWQ's 4-bit layout belong."""


def unpacked(words: Tensor, bits: int, count: int) -> Tensor:
    """Codes that lie one after the other along the last dimension, lowest bits first.

    Args:
        words: int32 [..., words].
        bits: Of a code.
        count: Codes of a row.

    Returns:
        int32 [..., count].
    """
    shifts = torch.arange(WORD, dtype=torch.int32)
    stream = (words.cpu().unsqueeze(-1) >> shifts & 1).to(torch.uint8).flatten(-2)
    stream = stream[..., : count * bits].reshape(*words.shape[:-1], count, bits)
    places = 2 ** torch.arange(bits, dtype=torch.int32)
    codes: Tensor = (stream * places).sum(-1, dtype=torch.int32)
    return codes


def natural(codes: Tensor) -> Tensor:
    """The codes of AWQ's 4-bit layout, [rows, columns], in the order of the columns."""
    rows, columns = codes.shape
    return codes.reshape(rows, columns // len(_ORDER), len(_ORDER))[..., _ORDER].flatten(-2)
