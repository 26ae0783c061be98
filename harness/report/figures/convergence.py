"""Convergence of the genetic search of MoE-I² in every layer (figure 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.report.figures.heat import ticks
from harness.report.figures.method_notes import noted, titles
from harness.report.figures.page import HEAT, Drawing, Panel, page, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 12
"""Largest number of blocks with which the means are drawn too; more would hide the best."""


def convergence(records: Sequence[Record], protocol: Protocol) -> Iterator[Drawing]:
    """Draw the least and the mean loss of every generation, a line per block."""
    searches = noted(records, protocol, "moe-i2-prune.search")
    panels = [
        Panel(title, partial(_panel, layers=n.data))
        for title, n in zip(titles(searches), searches, strict=True)
    ]
    if panels:
        yield Drawing("search", page("Convergence of the genetic search", panels))


def _panel(axes: Axes, layers: Sequence[Mapping[str, Any]]) -> None:
    import matplotlib as mpl

    # The last tenth of the map is too light for a line on white.
    shades = [0.9 * place / max(len(layers) - 1, 1) for place in range(len(layers))]
    colours = mpl.colormaps[HEAT](shades)
    looks = {"best": "-", "mean": ":"} if len(layers) <= FEW else {"best": "-"}
    for layer, colour in zip(layers, colours, strict=True):
        first = layer["best"][0] or 1.0  # a layer that loses nothing has nothing to find
        for name, look in looks.items():
            axes.plot([value / first for value in layer[name]], look, color=colour, linewidth=1.6)
    for name, look in looks.items():
        axes.plot([], [], look, color="black", label=f"{name} of the generation")
    plain(axes, whole=True)
    axes.set_xlabel("generation")
    axes.set_ylabel("loss / best of the first generation")
    _bar(axes, [int(layer["block"]) for layer in layers], colours)


def _bar(axes: Axes, blocks: Sequence[int], colours: Any) -> None:
    """Draw a bar that says which colour is which block's."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    norm = BoundaryNorm(range(len(blocks) + 1), len(blocks))
    shades = ScalarMappable(norm, ListedColormap(colours))
    figure: Any = axes.get_figure(root=True)  # it has one: `page` made it
    bar = figure.colorbar(shades, ax=axes, label="block", pad=0.02)
    places, labels = ticks(blocks)
    bar.set_ticks(places, labels=labels)
    bar.ax.tick_params(length=0)
    bar.ax.invert_yaxis()
