"""Codes in int32 words, low bits first: what all of these formats are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WORD = 32


def to_words(codes: Tensor, bits: int) -> Tensor:
    """uint8 [rows, columns] to int32 [rows, ceil(columns bits / 32)], padded with 0."""
    each = WORD // bits
    padded = F.pad(codes, (0, -codes.shape[-1] % each)).long()
    shifts = torch.arange(0, WORD, bits, device=codes.device)
    words = (padded.view(len(codes), -1, each) << shifts).sum(-1)  # int64, below 2^32
    return torch.where(words < 2**31, words, words - 2**32).to(torch.int32)


def from_words(words: Tensor, bits: int) -> Tensor:
    """int32 [rows, words] to int32 [rows, words 32 / bits]."""
    shifts = torch.arange(0, WORD, bits, device=words.device, dtype=torch.int32)
    # A shift of a negative word drags its sign along; the mask cuts it off.
    codes: Tensor = (words.unsqueeze(-1) >> shifts) & (2**bits - 1)
    return codes.flatten(-2)
