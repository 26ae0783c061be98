"""The sets of ranks a token can choose, and which of them a bit mask of kept ranks leads to.

Rank 0 is a token's first expert in router order. Sets of one size are numbered in colexicographic
order, where {c_1 < ... < c_m} is number sum_i binomial(c_i, i): adding a larger rank to a set then
adds one term, so the table over all masks grows by doubling.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import torch
from torch import Tensor

MOST_RANKS = 20
"""The table over masks has 2^ranks entries; fp32 holds masks exactly up to 24."""


def count(ranks: int, least: int, most: int) -> int:
    """The number of sets of `least` to `most` ranks."""
    return sum(math.comb(ranks, size) for size in range(least, most + 1))


@lru_cache(maxsize=4)
def members(ranks: int, least: int, most: int) -> Tensor:
    """The ranks of each set, bool [sets, ranks]; smaller sets first."""
    rows = []
    for size in range(least, most + 1):
        sets = torch.tensor(list(itertools.combinations(range(ranks), size)), dtype=torch.int64)
        rows.append(torch.zeros(len(sets), ranks, dtype=torch.bool).scatter_(1, sets, True))
    sets = torch.cat(rows)  # [sets, ranks], each size in lexicographic order
    bits = (sets.long() << torch.arange(ranks)).sum(1)
    return sets[torch.argsort(bits + (sets.sum(1) << ranks))]


@lru_cache(maxsize=4)
def of_masks(ranks: int, least: int, most: int) -> Tensor:
    """The number of the set that a mask's first `most` bits make, int32 [2^ranks].

    0 for masks with fewer than `least` bits.
    """
    number = torch.zeros(1, dtype=torch.int32)
    size = torch.zeros(1, dtype=torch.int32)
    for rank in range(ranks):
        terms = torch.tensor(
            [math.comb(rank, held + 1) if held < most else 0 for held in range(most + 1)],
            dtype=torch.int32,
        )
        number = torch.cat([number, number + terms[size]])
        size = torch.cat([size, (size + 1).clamp_max(most)])
    first = [count(ranks, least, held - 1) for held in range(most + 1)]
    offsets = torch.tensor(first, dtype=torch.int32)
    return torch.where(size >= least, number + offsets[size], 0)
