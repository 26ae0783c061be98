"""A page of panels in the style of all figures, and its files."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.disk.writing import put
from harness.report.footnotes import REFERENCE
from harness.words import told

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#6B6B6B")
"""Colours that colour-blind readers tell apart (after Okabe and Ito, no yellow, no black)."""
MARKERS = "osD^vPXph<>"
HEAT = "cividis"
"""Colour map of heat maps; the same to readers with and without red-green blindness."""
GONE = "#E4E4E4"
"""Colour of a heat map's cells without a value."""
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "moebench",
    "font.size": 11,
    "axes.titlesize": 12,
    "legend.fontsize": 10,
}
WIDTH, HEIGHT = 5.0, 4.0
"""Size of a panel, in inches; a panel that stands alone is wider."""
ACROSS = 3
"""Largest number of panels side by side."""
OWN = f"{REFERENCE}... are small models trained for this package."
MOST = 12
"""Largest number of panels on one page; more cannot be read."""
LONGEST = 120
"""Characters of a line; of a longer one, the beginning is drawn."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    draw: Callable[[Axes], None]


class Drawing(NamedTuple):
    """A figure and the name of its files, without suffix."""

    name: str
    figure: Figure


def page(title: str, panels: Sequence[Panel], note: str = "") -> Figure:
    """Return a figure of at most `MOST` panels with one legend for all of them below.

    Args:
        title: Title of the figure; it then says how many panels were left out, if any were.
        panels: The panels; at least one.
        note: Line above the legend.
    """
    from matplotlib.figure import Figure

    shown = panels[:MOST]
    if len(shown) < len(panels):
        title += f" (the first {MOST} of {len(panels)})"
    across = min(len(shown), ACROSS)
    down = math.ceil(len(shown) / across)
    if any(REFERENCE in text for text in (title, *(panel.title for panel in shown))):
        note = f"{note}\n{OWN}".strip()
    lines = max(panel.title.count("\n") for panel in shown)
    height = (HEIGHT + 0.2 * lines) * down
    figure = Figure((WIDTH * max(across, 1.4), height), layout="constrained")
    figure.suptitle(title, fontsize=13)
    places = figure.subplots(down, across, squeeze=False).flatten()
    for place, panel in zip(places, shown, strict=False):
        place.set_title(panel.title)
        panel.draw(place)
    for place in places[len(shown) :]:
        place.set_axis_off()
    figure.set_figheight(height + 0.5 + 0.25 * legend(figure, note))
    return figure


def plain(axes: Axes, *, whole: bool = False) -> None:
    """Draw a light grid and no box.

    Args:
        axes: Axes to draw on.
        whole: True if the numbers below are whole: a block or a generation.
    """
    from matplotlib.ticker import MaxNLocator

    if whole:
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(figure: Figure, note: str) -> int:
    """Draw below the panels what all their labels mean, each once; return the number of lines.

    As many columns as the longest label leaves room for: what is wider than the figure is cut off.
    """
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        figure.supxlabel(note, fontsize=9)
        return note.count("\n")
    longest = max(len(label) for label in entries)
    columns = max(min(int(figure.get_figwidth() / (0.085 * longest + 0.6)), len(entries)), 1)
    figure.legend(
        handles=list(entries.values()),
        labels=list(entries),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        title=note or None,
        title_fontsize=9,
    )
    return math.ceil(len(entries) / columns) + note.count("\n")


def style(place: int) -> dict[str, Any]:
    """Return colour and marker of the series at `place`, and the looks that all series share."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 7,
        "markeredgecolor": "white",
        "markeredgewidth": 0.7,
        "linewidth": 1.6,
        "alpha": 0.9,
    }


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a PNG and an SVG; the same figure gives the same bytes.

    Raises:
        OSError: one cannot be written.
    """
    _spell(figure)
    paths = []
    for form, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        out = io.BytesIO()
        with warnings.catch_warnings():  # of letters that the font lacks, and of little room
            warnings.simplefilter("ignore", UserWarning)
            figure.savefig(out, format=form, dpi=150, metadata=metadata)
        paths.append(folder / f"{name}.{form}")
        put(paths[-1], out.getvalue())
    return paths


def named(label: str) -> str:
    """Return the label of a series; one that begins with an underscore would be in no legend."""
    return f" {label}" if label.startswith("_") else label


def _spell(figure: Figure) -> None:
    """Draw all words as they are: nothing hidden in them, and no dollar begins a formula."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_parse_math(False)
            text.set_text("\n".join(told(line, LONGEST) for line in text.get_text().split("\n")))
