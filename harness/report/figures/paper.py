"""Accuracies of ours against those that a paper printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from harness.intervals import REACH
from harness.judge.verdict import Verdict, VerdictOutcome, Verdicts, verdicts
from harness.plan.suite import Suite
from harness.records.store import Store
from harness.report.figures.page import COLOURS, Drawing, Panel, page, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACCURACIES = ("acc", "acc_norm", "average")
LOOKS: dict[VerdictOutcome, str] = {
    "reproduced": COLOURS[2],
    "differs": COLOURS[1],
    "not comparable": COLOURS[7],
}


def judged(store: Store) -> Verdicts | None:
    """Return the verdicts on the published table that a suite names; None where it names none."""
    path = store.folder / "suite.toml"
    if not path.is_file():
        return None
    suite = Suite.stored(path, store.plan().suite)
    return verdicts(store) if suite.published else None


def paper(judged: Verdicts) -> Iterator[Drawing]:
    """Draw a point per published accuracy that we have a number for, a panel per model."""
    points = [
        verdict
        for verdict in judged.verdicts
        if verdict.column.metric in ACCURACIES and verdict.ours is not None
    ]
    points.sort(key=lambda point: point.model)
    panels = [
        Panel(judged.table.models[model], partial(_panel, points=list(group)))
        for model, group in groupby(points, key=lambda point: point.model)
    ]
    if panels:
        source = judged.table.paper
        title = f"Accuracies against {source.authors[0]} et al. {source.year} ({judged.table.key})"
        note = f"Points: tasks; squares: averages; bars: {REACH} standard errors of ours."
        yield Drawing("accuracy-against-paper", page(title, panels, note))


def _panel(axes: Axes, points: Sequence[Verdict]) -> None:
    for outcome, colour in LOOKS.items():
        for average in (False, True):
            mine = [
                (float(point.corrected), point.ours or 0.0, REACH * point.error)
                for point in points
                if point.outcome == outcome and (point.column.metric == "average") is average
            ]
            if not mine:
                continue
            theirs, ours, errors = zip(*mine, strict=True)
            axes.errorbar(
                theirs,
                ours,
                yerr=errors,
                fmt="s" if average else "o",
                color=colour,
                markeredgecolor="white",
                markeredgewidth=0.7,
                elinewidth=0.8,
                alpha=0.9,
                label=outcome,
            )
    plain(axes)
    low = min(min(float(point.corrected), point.ours or 0.0) for point in points)
    high = max(max(float(point.corrected), point.ours or 0.0) for point in points)
    axes.plot([low, high], [low, high], color="black", linestyle="--", linewidth=1, label="equal")
    axes.set_xlabel("the paper's (%)")
    axes.set_ylabel("ours (%)")
