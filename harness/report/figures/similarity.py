"""How little MoE layers and blocks change what passes through them (C-MoE, figure 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.report.figures.heat import heat
from harness.report.figures.noted import Noted, noted, titles
from harness.report.figures.page import Drawing, Panel, page, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORES = {"norm-moe": "with norm and residual", "moe": "MoE layer alone"}
"""Layer Drop's option to what it compares."""


def similarity(records: Sequence[Record], protocol: Protocol) -> Iterator[Drawing]:
    """Lines for MoE layers, heat maps for runs of blocks."""
    found = noted(records, protocol, "layer-drop.similarity")
    panels = [
        Panel(model, partial(_layers, series=list(group)))
        for model, group in groupby(found, key=lambda one: one.model)
    ]
    if panels:
        note = "Of what enters a MoE layer and what leaves it."
        yield Drawing("similarity-of-layers", page("Similarity across MoE layers", panels, note))
    found = noted(records, protocol, "block-drop.similarity")
    panels = [
        Panel(title, partial(_blocks, matrix=one.data[0]))
        for title, one in zip(titles(found), found, strict=True)
    ]
    if panels:
        note = "Of what enters the first block of a run and what leaves its last."
        yield Drawing("similarity-of-blocks", page("Similarity across blocks", panels, note))


def _layers(axes: Axes, series: Sequence[Noted]) -> None:
    names = [_label(one) for one in series]
    for one, name in zip(series, names, strict=True):
        values: Mapping[str, float] = one.data[0]
        blocks = sorted(int(block) for block in values)
        alike = names.count(name) > 1
        axes.plot(
            blocks,
            [values[str(block)] for block in blocks],
            label=f"{name}: {one.rows[0]}" if alike else name,
            **style(list(SCORES.values()).index(name) if not alike else series.index(one)),
        )
    plain(axes, whole=True)
    axes.set_xlabel("block")
    axes.set_ylabel("mean cosine")


def _label(one: Noted) -> str:
    step = next(step for step in one.record.recipe if step.method == "layer-drop")
    return SCORES[step.options["score"]]


def _blocks(axes: Axes, matrix: Sequence[Sequence[float]]) -> None:
    blocks = range(len(matrix) - 1)
    values = {(i, j): matrix[i][j + 1] for i in blocks for j in blocks if j >= i}
    heat(axes, values, blocks, blocks, "mean cosine")
    axes.set_xlabel("last block of the run")
    axes.set_ylabel("first block of the run")
