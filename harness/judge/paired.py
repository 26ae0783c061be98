"""Two models on the same items: the paired difference, its interval and its p-value."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import UserError
from harness.intervals import newcombe, paired_normal
from harness.records.record import Item


@dataclass(frozen=True)
class Comparison:
    """Difference of the second model from the first, over the items of both."""

    metric: str
    items: int
    gained: int
    """Items that only the second model gets right."""
    lost: int
    """Items that only the first model gets right."""
    difference: float
    """Mean of the second minus mean of the first, in -1..1."""
    low: float
    """Lower bound of the 95 % interval of the difference."""
    high: float
    """Its upper bound."""
    p: float
    """P-value of the exact two-sided McNemar test of no difference."""


class _Counts(NamedTuple):
    """Items by what became of them: right in both models, only in the first, and so on."""

    both: int
    lost: int
    gained: int
    neither: int


def compare(items_a: Sequence[Item], items_b: Sequence[Item], metric: str = "acc") -> Comparison:
    """Compare two models item by item; all items weigh the same, whatever their task.

    The interval is Newcombe's for paired proportions (`harness.intervals.newcombe`).

    Args:
        items_a: Outcomes of the first model, usually the baseline.
        items_b: Outcomes of the second model; the same items, in any order.
        metric: A metric that is 0 or 1 per item; items without it are left out.

    Raises:
        UserError: the items differ, none has the metric, or the metric is not 0 or 1.
    """
    a, b = _outcomes(items_a, metric), _outcomes(items_b, metric)
    if a.keys() != b.keys():
        apart = len(a.keys() ^ b.keys())
        raise UserError(
            f"the two models were not evaluated on the same items ({apart} have no partner): "
            "compare records of one protocol and one data root."
        )
    if not a:
        raise UserError(f"no item has the metric {metric!r}: choose one that its task reports.")
    pairs = Counter((a[key], b[key]) for key in a)
    return _compared(
        metric,
        _Counts(pairs[True, True], pairs[True, False], pairs[False, True], pairs[False, False]),
    )


class Difference(NamedTuple):
    """The second model's accuracy minus the first's, and the bounds of its 95 % interval; -1..1."""

    mean: float
    low: float
    high: float
    items: int


def compare_seeds(
    runs_a: Sequence[Sequence[Item]], runs_b: Sequence[Sequence[Item]], metric: str = "acc"
) -> Difference:
    """Compare two models of several seeds each, item by item.

    With one seed each this is `compare`. Otherwise an item's outcome is its mean over the seeds of
    a model, and the interval is the normal one over the items (`harness.intervals.paired_normal`):
    it takes the seeds as given, and says nothing about seeds that were not run.

    Args:
        runs_a: Outcomes of the first model, one sequence of items per seed.
        runs_b: Outcomes of the second model; the same items.
        metric: A metric that is 0 or 1 per item; items without it are left out.

    Raises:
        UserError: the items differ, none has the metric, or the metric is not 0 or 1.
    """
    if len(runs_a) == 1 and len(runs_b) == 1:
        pair = compare(runs_a[0], runs_b[0], metric)
        return Difference(pair.difference, pair.low, pair.high, pair.items)
    for run in (*runs_a, *runs_b):
        compare(runs_a[0], run, metric)  # the same items everywhere
    a, b = _means(runs_a, metric), _means(runs_b, metric)
    differences = [b[key] - a[key] for key in a]
    low, high = paired_normal(differences)
    return Difference(statistics.fmean(differences), low, high, len(differences))


def _means(runs: Sequence[Sequence[Item]], metric: str) -> dict[tuple[str, str, str, int], float]:
    """Mean outcome over the seeds, by the same keys as `_outcomes`."""
    outcomes = [_outcomes(run, metric) for run in runs]
    return {key: statistics.fmean(run[key] for run in outcomes) for key in outcomes[0]}


def _outcomes(items: Sequence[Item], metric: str) -> dict[tuple[str, str, str, int], bool]:
    """Outcomes, right or wrong, by task, item, prompt, and how often that item came before."""
    seen: Counter[tuple[str, str, str]] = Counter()
    outcomes = {}
    for item in items:
        if metric not in item.metrics:
            continue
        value = item.metrics[metric]
        if value not in (0.0, 1.0):
            raise UserError(f"{metric} of {item.task} is {value}, not 0 or 1: it has no pairs.")
        key = (item.task, item.item, item.prompt)
        outcomes[(*key, seen[key])] = value == 1.0
        seen[key] += 1
    return outcomes


def _compared(metric: str, counts: _Counts) -> Comparison:
    from scipy.stats import binomtest

    n, changed = sum(counts), counts.lost + counts.gained
    low, high = newcombe(*counts)
    return Comparison(
        metric=metric,
        items=n,
        gained=counts.gained,
        lost=counts.lost,
        difference=(counts.gained - counts.lost) / n,
        low=low,
        high=high,
        p=float(binomtest(counts.gained, changed, 0.5).pvalue) if changed else 1.0,
    )
