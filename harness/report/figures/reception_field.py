"""The reception field: accuracy and perplexity against the K and T of MoE-I² (figure 5)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.records.comparing import different, text_data
from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.records.rows import entries
from harness.report.board import DataReader, ValueReader
from harness.report.columns import average, average_data
from harness.report.figures.levels import spread
from harness.report.figures.page import Drawing, Panel, page, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHOD = "moe-i2-prune"
WORDS = {"best": "K (subsets per layer)", "field": "T (layers per field)"}
"""Words on the axes, by the method's option."""
Settings = dict[tuple[int, int], list[Record]]
"""Records of all seeds, by K and T."""


@dataclass(frozen=True)
class FieldSweep:
    """Recipes of one model that differ in K and T alone."""

    model: str
    row: str
    """Name of the first row among them."""
    records: Settings


def reception_field(records: Sequence[Record], protocol: Protocol) -> Iterator[Drawing]:
    """Draw accuracy and perplexities against K and T, where recipes differ in them alone."""
    measures: dict[str, tuple[ValueReader, DataReader]] = {}
    if protocol.average:
        measures["average accuracy (%)"] = (
            partial(_accuracy, protocol=protocol),
            partial(average_data, protocol=protocol),
        )
    for name in protocol.perplexity:
        measures[f"perplexity, {name}"] = (
            partial(_perplexity, name=name),
            partial(text_data, text=name),
        )
    sweeps = _sweeps(records, protocol)
    several = len({sweep.model for sweep in sweeps}) < len(sweeps)
    panels = []
    for sweep in sweeps:
        title = f"{sweep.model}\n{sweep.row}, ..." if several else sweep.model
        for words, (read, data) in measures.items():
            points = _points(sweep.records, read)
            apart = different(data(r) for seeds in sweep.records.values() for r in seeds)
            if len(points) > 1 and not apart:
                panels.append(Panel(title, partial(_panel, points=points, words=words)))
    if panels:
        title = "K and T of the reception field"
        note = "Points: means over seeds; bars: one standard deviation."
        yield Drawing("reception-field", page(title, panels, note))


def _sweeps(records: Sequence[Record], protocol: Protocol) -> list[FieldSweep]:
    sweeps: dict[str, FieldSweep] = {}
    for entry in entries(records, protocol):
        for record in entry.ok:
            steps = [step for step in record.recipe if step.method == METHOD]
            if len(steps) != 1:
                continue
            rest = [
                [step.method, {k: v for k, v in step.options.items() if k not in (*WORDS, "seed")}]
                for step in record.recipe
            ]
            key = json.dumps([entry.model, rest], sort_keys=True)
            sweep = sweeps.setdefault(key, FieldSweep(entry.model, entry.name, defaultdict(list)))
            options = steps[0].options
            sweep.records[options["best"], options["field"]].append(record)
    return [sweep for sweep in sweeps.values() if len(sweep.records) > 1]


def _points(
    records: Settings, read: Callable[[Record], float | None]
) -> dict[tuple[int, int], tuple[float, float]]:
    """Mean and standard deviation over seeds, by K and T."""
    points = {}
    for setting, seeds in records.items():
        values = [value for record in seeds if (value := read(record)) is not None]
        if values:
            points[setting] = spread(values)
    return points


def _panel(axes: Axes, points: Mapping[tuple[int, int], tuple[float, float]], words: str) -> None:
    values = [sorted({setting[axis] for setting in points}) for axis in (0, 1)]
    across = 0 if len(values[0]) >= len(values[1]) else 1
    names = list(WORDS.values())
    for place, line in enumerate(values[1 - across]):
        mine = sorted(setting for setting in points if setting[1 - across] == line)
        deviations = [points[setting][1] for setting in mine]
        axes.errorbar(
            [setting[across] for setting in mine],
            [points[setting][0] for setting in mine],
            yerr=deviations if any(deviations) else None,
            capsize=3,
            label=f"{names[1 - across][0]} = {line}",
            **style(place),
        )
    plain(axes)
    axes.set_xlabel(names[across])
    axes.set_ylabel(words)
    axes.set_xticks(values[across])


def _accuracy(record: Record, *, protocol: Protocol) -> float | None:
    value = average(record, protocol)
    return None if value is None else 100 * value


def _perplexity(record: Record, *, name: str) -> float | None:
    return record.perplexity[name].value if name in record.perplexity else None
