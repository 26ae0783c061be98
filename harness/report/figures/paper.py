"""Our accuracies beside a paper's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from harness.judge.verdict import CONFIDENCE, Outcome, Verdict, Verdicts, verdicts
from harness.plan.suite import Suite
from harness.records.store import Store
from harness.report.figures.page import COLOURS, Drawing, Panel, page, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACCURACIES = ("acc", "acc_norm", "average")
LOOKS: dict[Outcome, str] = {
    "reproduced": COLOURS[2],
    "differs": COLOURS[1],
    "not comparable": COLOURS[7],
}


def judged(store: Store) -> Verdicts | None:
    """The verdicts on the published table that a suite names; None where it names none."""
    path = store.folder / "suite.toml"
    if not path.is_file():
        return None
    suite = Suite.parse(path.read_text("utf-8"), name=store.plan().suite, source=str(path))
    return verdicts(store) if suite.published else None


def paper(found: Verdicts) -> Iterator[Drawing]:
    """A point per published accuracy that we have a number for, a panel per model."""
    points = [
        one for one in found.found if one.column.metric in ACCURACIES and one.ours is not None
    ]
    points.sort(key=lambda one: one.model)
    panels = [
        Panel(found.table.models[model], partial(_panel, points=list(group)))
        for model, group in groupby(points, key=lambda one: one.model)
    ]
    if panels:
        source = found.table.paper
        title = f"Accuracies against {source.authors[0]} et al. {source.year} ({found.table.key})"
        note = f"Points: tasks; squares: averages; bars: {CONFIDENCE} standard errors of ours."
        yield Drawing("accuracy-against-paper", page(title, panels, note))


def _panel(axes: Axes, points: Sequence[Verdict]) -> None:
    for outcome, colour in LOOKS.items():
        for average in (False, True):
            mine = [
                (float(one.corrected), one.ours or 0.0, CONFIDENCE * one.error)
                for one in points
                if one.outcome == outcome and (one.column.metric == "average") is average
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
    low = min(min(float(one.corrected), one.ours or 0.0) for one in points)
    high = max(max(float(one.corrected), one.ours or 0.0) for one in points)
    axes.plot([low, high], [low, high], color="black", linestyle="--", linewidth=1, label="equal")
    axes.set_xlabel("the paper's (%)")
    axes.set_ylabel("ours (%)")
