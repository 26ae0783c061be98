"""Accuracy against experts, MoE layers and blocks removed (C-MoE, figures 3 and 5)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.records.rows import entries
from harness.report.board import Row
from harness.report.columns import AVERAGE, average
from harness.report.figures.levels import levels, spread
from harness.report.figures.page import Drawing, Panel, named, page, plain, style
from harness.report.figures.removed import Removed, RemovedUnit, experts_of, removed
from harness.report.leaderboard import leaderboard

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNITS: dict[RemovedUnit, str] = {
    "experts": "experts removed per MoE layer",
    "layers": "MoE layers removed",
    "blocks": "blocks removed",
}
BUDGET = ("keep", "ratio", "drop", "seed")
"""Options that say how much is removed, or how chance falls, and not which method it is."""


@dataclass(frozen=True)
class Dropped:
    """One record with an average accuracy."""

    model: str
    method: str
    options: Mapping[str, Any]
    """Options of the step, the budget left out."""
    removed: Removed
    accuracy: float
    """Average accuracy in percent."""


def dropping(records: Sequence[Record], protocol: Protocol) -> Iterator[Drawing]:
    """Draw a figure for each unit that single-step recipes removed; a panel per model."""
    rows = leaderboard(records, protocol).rows
    points = list(_dropped(records, protocol, {row.id for row in rows if AVERAGE in row.apart}))
    for unit, words in UNITS.items():
        mine = [point for point in points if point.removed.unit == unit]
        names = _series(mine)
        panels = [
            Panel(
                model,
                partial(
                    _panel,
                    points=list(group),
                    names=names,
                    rows=[row for row in rows if row.model == model],
                    words=words,
                ),
            )
            for model, group in groupby(mine, key=lambda point: point.model)
        ]
        if panels:
            title = f"Average accuracy on {len(protocol.average)} tasks against {words}"
            note = "Points: means over seeds; bars: one standard deviation."
            yield Drawing(f"accuracy-against-{unit}-removed", page(title, panels, note))


def _dropped(
    records: Sequence[Record], protocol: Protocol, apart: Collection[tuple[str, str]]
) -> Iterator[Dropped]:
    """Points of the rows but those that are `apart`: of other data than the baseline's line."""
    experts = experts_of(records)
    for entry in (entry for entry in entries(records, protocol) if entry.id not in apart):
        for record in entry.ok:
            gone = removed(record, experts.get(record.model.sha256, {}))
            accuracy = average(record, protocol)
            if gone and accuracy is not None:
                step = record.recipe[0]
                options = {k: v for k, v in step.options.items() if k not in BUDGET}
                yield Dropped(entry.model, step.method, options, gone, 100 * accuracy)


def _series(points: Sequence[Dropped]) -> dict[tuple[str, str], str]:
    """Names of lines, by method and options: with the options only where a method has several."""
    varied: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for point in points:
        for option, value in point.options.items():
            varied[point.method][option].add(str(value))
    names = {}
    for point in points:
        told = [
            f"{option} {value}" if isinstance(value, (bool, int, float)) else str(value)
            for option, value in sorted(point.options.items())
            if len(varied[point.method][option]) > 1
        ]
        names[_key(point)] = ", ".join([point.method, *told])
    return dict(sorted(names.items(), key=lambda item: item[1]))


def _key(point: Dropped) -> tuple[str, str]:
    return point.method, str(sorted(point.options.items()))


def _panel(
    axes: Axes,
    points: Sequence[Dropped],
    names: Mapping[tuple[str, str], str],
    rows: Sequence[Row],
    words: str,
) -> None:
    base = next(
        (r.values[AVERAGE].mean for r in rows if r.kind == "baseline" and AVERAGE in r.values), None
    )
    levels(axes, rows)
    for place, (key, name) in enumerate(names.items()):
        by_count: dict[float, list[float]] = defaultdict(list)
        for point in points:
            if _key(point) == key:
                by_count[point.removed.count].append(point.accuracy)
        if not by_count:
            continue
        if base is not None:
            by_count[0.0] = [100 * base]
        counts = sorted(by_count)
        means, deviations = zip(*(spread(by_count[count]) for count in counts), strict=True)
        axes.errorbar(
            counts,
            means,
            yerr=deviations if any(deviations) else None,
            capsize=3,
            label=named(name),
            **style(place),
        )
    plain(axes, whole=True)
    total = max((point.removed.of or 0 for point in points), default=0)
    axes.set_xlabel(f"{words} (of {total})" if total else words)
    axes.set_ylabel("average accuracy (%)")
