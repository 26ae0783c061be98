"""What the model loses with each expert (MoE-I², figure 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.protocol import Protocol
from harness.record import Record
from harness.report.figures.heat import heat
from harness.report.figures.noted import noted, titles
from harness.report.figures.page import Drawing, Panel, page

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def importance(records: Sequence[Record], protocol: Protocol) -> Iterator[Drawing]:
    """A heat map of blocks and experts for every model on which importance was taken."""
    found = noted(records, protocol, "moe-i2.importance")
    panels = [
        Panel(title, partial(_panel, losses=one.data[0]))
        for title, one in zip(titles(found), found, strict=True)
    ]
    if panels:
        title = "Importance: rise of the calibration loss without one expert"
        yield Drawing("importance", page(title, panels))


def _panel(axes: Axes, losses: Mapping[str, Any]) -> None:
    base = losses["base"]
    values = {
        (int(block), int(expert)): loss - base
        for block, layer in losses.items()
        if block != "base"
        for expert, loss in layer.items()
    }
    rows = sorted({row for row, _ in values})
    columns = sorted({column for _, column in values})
    heat(axes, values, rows, columns, "nats per token")
    axes.set_xlabel("expert")
    axes.set_ylabel("block")
