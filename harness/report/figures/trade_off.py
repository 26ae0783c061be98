"""The trade-off: average accuracy against the size that is left, one panel per model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.report.board import Row
from harness.report.columns import AVERAGE
from harness.report.figures.page import (
    ACROSS,
    HEIGHT,
    OWN,
    WIDTH,
    Drawing,
    legend,
    named,
    style,
)
from harness.report.footnotes import REFERENCE
from harness.report.leaderboard import leaderboard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZES = {
    "artifact": ("size.artifact_bytes", "artifact size"),
    "parameters": ("size.nonzero_parameters", "nonzero parameters"),
}
"""Key of the size's column and its words, by the end of the file's name."""
NOTE = "Points: means over seeds; bars: one standard deviation."


@dataclass(frozen=True)
class Point:
    """One recipe: size in % of the baseline's, average accuracy in %, and its sd over seeds."""

    size: float
    accuracy: float
    sd: float | None


def trade_off(records: Sequence[Record], protocol: Protocol) -> Iterator[Drawing]:
    """Draw the average accuracy against the artifact's size and against the parameters kept.

    Both are drawn even where no record has an average and a size, and say so.

    Args:
        records: Records of one protocol, in any order; those without an average or a size are
            left out.
        protocol: The protocol that the records were made under.

    Raises:
        UserError: a record of another protocol, or two records for one row and seed.
    """
    rows = leaderboard(records, protocol).rows
    for name, (key, size) in SIZES.items():
        figure = _figure(rows, key, size, len(protocol.average))
        yield Drawing(f"accuracy-against-{name}", figure)


def _figure(rows: Sequence[Row], key: str, size: str, tasks: int) -> Figure:
    from matplotlib.figure import Figure

    panels = [(model, list(group)) for model, group in groupby(rows, key=lambda row: row.model)]
    lines = sorted({_methods(row) for row in rows if row.kind == "method"})
    across = min(max(len(panels), 1), ACROSS)
    down = max(math.ceil(len(panels) / across), 1)
    width = WIDTH * max(across, 1.4)
    figure = Figure(figsize=(width, HEIGHT * down), layout="constrained")
    figure.suptitle(f"Average accuracy on {tasks} tasks against {size}", fontsize=13)
    grid = figure.subplots(down, across, squeeze=False)
    for place, (model, group) in zip(grid.flat, panels, strict=False):
        _panel(place, model, group, key, lines)
        place.set_xlabel(f"{size} (% of the baseline)")
    for place in grid[:, 0]:
        place.set_ylabel("average accuracy (%)")
    for place in grid.flat[len(panels) :]:
        place.set_axis_off()
    if not any(place.get_legend_handles_labels()[1] for place in figure.axes):
        figure.text(0.5, 0.5, "No record has both an average and a size.", ha="center")
        return figure
    reference = any(model.startswith(REFERENCE) for model, _ in panels)
    note = f"{NOTE}\n{OWN}" if reference else NOTE
    figure.set_figheight(HEIGHT * down + 0.5 + 0.25 * legend(figure, note))
    return figure


def _panel(axes: Axes, model: str, rows: Sequence[Row], key: str, lines: Sequence[str]) -> None:
    axes.set_title(model)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    base = next((row for row in rows if row.kind == "baseline"), None)
    if base and AVERAGE in base.values:
        accuracy = 100 * base.values[AVERAGE].mean
        axes.axhline(accuracy, color="black", linestyle="--", linewidth=1)
        axes.plot(100, accuracy, "k*", markersize=12, label="baseline", zorder=3)
    level = next((row for row in rows if row.kind == "level" and AVERAGE in row.values), None)
    if level:
        axes.axhline(
            100 * level.values[AVERAGE].mean,
            color="black",
            linestyle=":",
            linewidth=1.2,
            label="mean of max(chance, majority)",
        )
    for methods, points in _points(rows, base, key):
        _line(axes, methods, points, lines.index(methods))


def _points(rows: Sequence[Row], base: Row | None, key: str) -> Iterator[tuple[str, list[Point]]]:
    """Points by the methods of their rows; without an average or a size a row has none."""
    whole = base.values[key].mean if base and key in base.values else 0.0
    points: dict[str, list[Point]] = defaultdict(list)
    for row in rows:
        if AVERAGE in row.apart:  # of other data than the baseline's line
            continue
        if row.kind == "method" and whole > 0 and {AVERAGE, key} <= row.values.keys():
            average, size = row.values[AVERAGE], row.values[key].mean
            sd = None if average.sd is None else 100 * average.sd
            points[_methods(row)].append(Point(100 * size / whole, 100 * average.mean, sd))
    for methods in sorted(points):
        yield methods, sorted(points[methods], key=lambda point: (point.size, point.accuracy))


def _line(axes: Axes, methods: str, points: Sequence[Point], place: int) -> None:
    sizes = [round(point.size, 3) for point in points]
    # Variants of one size belong to no curve.
    curve = len(set(sizes)) == len(sizes)
    axes.errorbar(
        [point.size for point in points],
        [point.accuracy for point in points],
        yerr=[point.sd or 0.0 for point in points] if any(p.sd for p in points) else None,
        label=named(methods),
        linestyle="-" if curve else "none",
        capsize=3,
        **style(place),
    )


def _methods(row: Row) -> str:
    return " + ".join(row.methods)
