# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The expert and the rows of a program's tile."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sought(slots, tile, rows, experts, ROWS: tl.constexpr, BINS: tl.constexpr, M: tl.constexpr):
    """Expert of a tile, and its rows [M], -1 where it has fewer; `experts` beyond the last tile.

    By counting the experts of all rows.

    Args:
        slots: Pointer to the rows' experts, [rows].
        tile: Which tile.
        rows: How many.
        experts: How many.
        ROWS: Power of two, at least `rows`.
        BINS: Power of two, above `experts`.
        M: Rows of a tile.
    """
    row = tl.arange(0, ROWS)
    slot = tl.load(slots + row, mask=row < rows, other=experts)
    slot = tl.where((slot < 0) | (slot > experts), experts, slot).to(tl.int32)
    bins = tl.arange(0, BINS)
    tiles = (tl.histogram(slot, BINS) + M - 1) // M  # of each expert
    ends = tl.cumsum(tl.where(bins < experts, tiles, 0), 0)
    done = (ends <= tile) & (bins < experts)  # experts whose tiles all come before
    expert = tl.sum(done.to(tl.int32), 0)
    first = (tile - tl.max(tl.where(done, ends, 0), 0)) * M
    same = (slot == expert).to(tl.int32)
    rank = tl.cumsum(same, 0) - same  # rows of the same expert before each
    wanted = first + tl.arange(0, M)
    mine = (rank[None, :] == wanted[:, None]) & (same[None, :] == 1)  # [M, ROWS]
    return expert, tl.max(tl.where(mine, row[None, :], -1), 1)


@triton.jit
def listed(order, table, tile, tiles, M: tl.constexpr):
    """The same, looked up in what `Tiles` has sorted."""
    expert = tl.load(table + tile)
    place = tl.load(table + tiles + tile) + tl.arange(0, M)
    end = tl.load(table + 2 * tiles + tile)
    return expert, tl.load(order + place, mask=place < end, other=-1)


@triton.jit
def rows_of(
    slots,
    order,
    table,
    rows,
    experts,
    SEARCH: tl.constexpr,
    LIST: tl.constexpr,
    ROWS: tl.constexpr,
    BINS: tl.constexpr,
    M: tl.constexpr,
):
    """Expert and rows of this program's tile, as `sought`; arguments as in `product`."""
    tile = tl.program_id(0)
    if SEARCH:
        expert, row = sought(slots, tile, rows, experts, ROWS, BINS, M)
    elif LIST:
        expert, row = listed(order, table, tile, tl.num_programs(0), M)
    else:
        expert = 0
        row = tile * M + tl.arange(0, M)
        row = tl.where(row < rows, row, -1)
    return expert, row
