"""Importance: loss of the model without each of its experts (MoE-I², figure 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.report.figures.heat import heat
from harness.report.figures.method_notes import noted, titles
from harness.report.figures.page import Drawing, Panel, page
from harness.report.figures.removed import experts_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def importance(records: Sequence[Record], protocol: Protocol) -> Iterator[Drawing]:
    """Draw a heat map of blocks and experts for every model on which importance was taken."""
    notes = noted(records, protocol, "moe-i2.importance")
    whole = experts_of(records)
    panels = [
        Panel(title, partial(_panel, losses=n.data[0], layers=whole.get(n.record.model.sha256)))
        for title, n in zip(titles(notes), notes, strict=True)
    ]
    if panels:
        title = "Importance: rise of the calibration loss without one expert"
        note = "Grey: experts removed before."
        yield Drawing("importance", page(title, panels, note))


def _panel(axes: Axes, losses: Mapping[str, Any], layers: Mapping[int, int] | None) -> None:
    base = losses["base"]
    values = {
        (int(block), int(expert)): loss - base
        for block, layer in losses.items()
        if block != "base"
        for expert, loss in layer.items()
    }
    rows = sorted({row for row, _ in values})
    most = max((layers or {}).values(), default=1 + max(column for _, column in values))
    columns = range(most)  # of the base model: numbers do not shift where experts are gone
    heat(axes, values, rows, columns, "nats per token")
    axes.set_xlabel("expert")
    axes.set_ylabel("block")
