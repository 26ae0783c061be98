"""Usage: the experts that a recipe kept, and how much each was used before."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.records.rows import Entry, entries
from harness.report.figures.heat import CROWDED, heat
from harness.report.figures.method_notes import shared
from harness.report.figures.page import COLOURS, Drawing, Panel, page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARK = COLOURS[1]
LONGEST = 80
"""Characters of a model's name that the name of its file has."""
Expert = tuple[int, int]
"""Numbers of a block and of an expert in it."""


def usage(records: Sequence[Record], protocol: Protocol) -> Iterator[Drawing]:
    """Draw a figure per model, with a heat map per row that removed or merged experts.

    Rows that left the same experts share one.
    """
    files: list[str] = []
    for model, group in groupby(entries(records, protocol), key=lambda entry: entry.model):
        rows: dict[str, list[str]] = defaultdict(list)
        draws: dict[str, Callable[[Axes], None]] = {}
        for entry in group:
            tokens, gone = _of(entry)
            key = f"{sorted(gone)} {tokens}"
            if gone:
                rows[key].append(entry.name)
                draws[key] = partial(_panel, tokens=tokens, gone=gone)
        panels = [Panel(shared(rows[key]), draws[key]) for key in rows]
        if panels:
            files.append(_file(model, files))
            title = f"Kept experts and their use in {model}"
            note = "Marked: experts removed, or merged into another. Use: before compression."
            yield Drawing(f"kept-experts-{files[-1]}", page(title, panels, note))


def _file(model: str, taken: Container[str]) -> str:
    """A model's name as a part of a file's, other than those that are taken."""
    name = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    if name and len(name) <= LONGEST and name not in taken:
        return name
    digest = hashlib.sha256(model.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[:LONGEST]}-{digest}".lstrip("-")


def _of(entry: Entry) -> tuple[Mapping[int, Mapping[int, int]], set[Expert]]:
    """Tokens per block and expert, and what experts are gone, of the first seed with numbers."""
    for record in entry.ok[:1]:
        counted = (s.calibration.tokens_per_expert for s in record.recipe if s.calibration)
        tokens = next((layers for layers in counted if layers), {})
        return tokens, _gone(record, tokens)
    return {}, set()


def _gone(record: Record, tokens: Mapping[int, Mapping[int, int]]) -> set[Expert]:
    gone: set[Expert] = set()
    for edit in record.edits:
        kept: set[int] = set()
        if edit["kind"] == "keep_experts":
            kept = set(edit["experts"])
        elif edit["kind"] == "merge_experts":
            kept = {group[0] for group in edit["groups"]}
        elif edit["kind"] not in ("drop_moe", "drop_block"):
            continue
        gone |= {(edit["block"], e) for e in tokens.get(edit["block"], {}) if e not in kept}
    single = {"keep_experts", "merge_experts"} & {edit["kind"] for edit in record.edits}
    return gone if single else set()


def _panel(axes: Axes, tokens: Mapping[int, Mapping[int, int]], gone: set[Expert]) -> None:
    shares = {
        (block, expert): 100 * count / max(sum(layer.values()), 1)
        for block, layer in tokens.items()
        for expert, count in layer.items()
    }
    rows = sorted(tokens)
    columns = sorted({expert for _, expert in shares})
    heat(axes, shares, rows, columns, "routed tokens of the layer (%)")
    places = [(columns.index(expert) + 0.5, rows.index(block) + 0.5) for block, expert in gone]
    if max(len(columns), len(rows)) < CROWDED:
        axes.plot(*zip(*sorted(places), strict=True), "x", color="white", markersize=9, mew=3.0)
        axes.plot(*zip(*sorted(places), strict=True), "x", color=MARK, markersize=9, mew=1.6)
    else:
        axes.plot(*zip(*sorted(places), strict=True), ".", color=MARK, markersize=3)
    axes.set_xlabel("expert")
    axes.set_ylabel("block")
