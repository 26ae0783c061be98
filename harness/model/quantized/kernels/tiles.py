"""Tiles of the grouped kernel: rows of one expert, which one program works on.

Everything is computed on the device from the rows' experts; the host knows only how many tiles
there can be at most, so that nothing is read back and a CUDA graph can be captured.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FEW_ROWS = 128
"""Up to so many rows every program finds its tile by itself, which saves a dozen launches."""
LOWEST, HIGHEST = 16, 128
"""Rows of a tile: tensor cores take no fewer than 16."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """Rows grouped by expert, a tile holding rows of one expert only.

    Attributes:
        rows: Number of rows.
        experts: Number of experts.
        height: Rows of a tile, a power of two.
        count: Upper bound of the number of tiles.
        slots: Expert of each row, [rows], integer; outside 0..experts-1 leads nowhere. None: all
            rows lead to expert 0.
        order: Rows sorted by expert, int32 [rows]; None where the programs search.
        table: For each tile its expert, and where in `order` it starts and its expert's rows end,
            int32 [3, count]; the expert of a tile beyond the last is `experts`.
    """

    rows: int
    experts: int
    height: int
    count: int
    slots: Tensor | None = None
    order: Tensor | None = None
    table: Tensor | None = None

    @classmethod
    def of(cls, slots: Tensor, experts: int) -> Tiles:
        """Group rows by expert.

        Args:
            slots: int32 or int64 [rows].
            experts: How many there are.
        """
        rows = len(slots)
        height = _height(rows, experts)
        count = (rows + min(rows, experts) * (height - 1)) // height
        if rows <= FEW_ROWS:
            return cls(rows, experts, height, count, slots.contiguous())
        return cls(rows, experts, height, count, slots, *_sorted(slots, experts, height, count))

    @classmethod
    def single(cls, rows: int) -> Tiles:
        """All rows lead to the only expert."""
        height = _height(rows, 1)
        return cls(rows, 1, height, -(-rows // height))


def _height(rows: int, experts: int) -> int:
    """The power of two that holds an expert's share of the rows, within bounds."""
    share = -(-rows // experts)
    return min(max(1 << (share - 1).bit_length(), LOWEST), HIGHEST) if share else LOWEST


def _sorted(slots: Tensor, experts: int, height: int, count: int) -> tuple[Tensor, Tensor]:
    """`order` and `table` of `Tiles`."""
    nowhere = (slots < 0) | (slots >= experts)
    ordered, order = slots.masked_fill(nowhere, experts).sort(stable=True)
    each = torch.arange(experts, device=slots.device, dtype=ordered.dtype)
    ends = torch.searchsorted(ordered, each, right=True)  # [experts]
    starts = torch.searchsorted(ordered, each)
    tiles = (ends - starts + height - 1) // height
    last = tiles.cumsum(0)  # where each expert's tiles end
    tile = torch.arange(count, device=slots.device)
    expert = torch.searchsorted(last, tile, right=True)  # [count]; `experts` beyond the last
    held = expert.clamp(max=experts - 1)
    first = starts[held] + (tile - (last - tiles)[held]) * height
    table = torch.stack([expert, first, ends[held]])
    return order.to(torch.int32), table.to(torch.int32)
