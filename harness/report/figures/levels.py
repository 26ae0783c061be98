"""Levels: lines of the baseline and of guessing, to see a row's accuracy against."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.report.board import Row
from harness.report.columns import AVERAGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def levels(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw horizontal lines at the average accuracies of the baseline and of guessing."""
    for row in rows:
        if row.kind == "method" or AVERAGE not in row.values:
            continue
        base = row.kind == "baseline"
        axes.axhline(
            100 * row.values[AVERAGE].mean,
            color="black",
            linestyle="--" if base else ":",
            linewidth=1 if base else 1.2,
            label="baseline" if base else "mean of max(chance, majority)",
        )


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and the sample standard deviation (0 for one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
