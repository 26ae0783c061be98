"""Similarity of what enters MoE layers and blocks and what leaves them (C-MoE, figure 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.report.figures.heat import heat
from harness.report.figures.method_notes import Noted, noted, titles
from harness.report.figures.page import Drawing, Panel, page, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORES = {"norm-moe": "with norm and residual", "moe": "MoE layer alone"}
"""Words for what Layer Drop compares, by its option `score`."""


def similarity(records: Sequence[Record], protocol: Protocol) -> Iterator[Drawing]:
    """Draw lines for MoE layers, and heat maps for runs of blocks."""
    layers = noted(records, protocol, "layer-drop.similarity")
    panels = [
        Panel(model, partial(_layers, series=list(group)))
        for model, group in groupby(layers, key=lambda note: note.model)
    ]
    if panels:
        below = "Of what enters a MoE layer and what leaves it."
        yield Drawing("similarity-of-layers", page("Similarity across MoE layers", panels, below))
    blocks = noted(records, protocol, "block-drop.similarity")
    panels = [
        Panel(title, partial(_blocks, matrix=note.data[0]))
        for title, note in zip(titles(blocks), blocks, strict=True)
    ]
    if panels:
        below = "Of what enters the first block of a run and what leaves its last."
        yield Drawing("similarity-of-blocks", page("Similarity across blocks", panels, below))


def _layers(axes: Axes, series: Sequence[Noted]) -> None:
    names = [_label(note) for note in series]
    for note, name in zip(series, names, strict=True):
        values: Mapping[str, float] = note.data[0]
        blocks = sorted(int(block) for block in values)
        alike = names.count(name) > 1
        axes.plot(
            blocks,
            [values[str(block)] for block in blocks],
            label=f"{name}: {note.rows[0]}" if alike else name,
            **style(list(SCORES.values()).index(name) if not alike else series.index(note)),
        )
    plain(axes, whole=True)
    axes.set_xlabel("block")
    axes.set_ylabel("mean cosine")


def _label(note: Noted) -> str:
    step = next(step for step in note.record.recipe if step.method == "layer-drop")
    return SCORES[step.options["score"]]


def _blocks(axes: Axes, matrix: Sequence[Sequence[float]]) -> None:
    blocks = range(len(matrix) - 1)
    values = {(i, j): matrix[i][j + 1] for i in blocks for j in blocks if j >= i}
    heat(axes, values, blocks, blocks, "mean cosine")
    axes.set_xlabel("last block of the run")
    axes.set_ylabel("first block of the run")
