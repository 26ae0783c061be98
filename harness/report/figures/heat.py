"""Heat maps with a number of the base model on either axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.report.figures.page import GONE, HEAT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TICKS = 11
"""Largest count of numbers beside an axis."""
CROWDED = 24
"""Count of rows or columns from which cells are too small for lines between them."""


def heat(
    axes: Axes,
    values: Mapping[tuple[int, int], float],
    rows: Sequence[int],
    columns: Sequence[int],
    label: str,
) -> None:
    """Draw a cell for every row and column, grey where there is no value.

    Args:
        axes: Axes to draw on; their labels are left to the caller.
        values: Values by row and column.
        rows: Rows from the top down.
        columns: Columns from left to right.
        label: Label of the colour bar.
    """
    import matplotlib as mpl
    import numpy as np

    grid = np.full((len(rows), len(columns)), np.nan)
    for (row, column), value in values.items():
        grid[rows.index(row), columns.index(column)] = value
    crowded = max(len(rows), len(columns)) >= CROWDED
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(grid),
        cmap=mpl.colormaps[HEAT],
        edgecolors="none" if crowded else "white",
        linewidth=0.5,
    )
    axes.set_facecolor(GONE)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_yticks(*ticks(rows))
    axes.set_xticks(*ticks(columns))
    figure: Any = axes.get_figure(root=True)  # it has one: `page` made it
    figure.colorbar(mesh, ax=axes, label=label, pad=0.02)


def ticks(numbers: Sequence[int]) -> tuple[list[float], list[str]]:
    """Return the middles of cells one wide, and their numbers; at most `TICKS`, evenly apart."""
    step = -(-len(numbers) // TICKS)
    places = range(0, len(numbers), step)
    return [place + 0.5 for place in places], [str(numbers[place]) for place in places]
