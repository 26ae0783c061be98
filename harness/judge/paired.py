"""Two models on the same items: the paired difference, its interval and its p-value."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import UserError
from harness.records.record import Item


@dataclass(frozen=True)
class Comparison:
    """How the second model differs from the first."""

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
    p: float
    """Of the exact two-sided McNemar test of no difference."""


class _Counts(NamedTuple):
    both: int
    lost: int
    gained: int
    neither: int


def compare(items_a: Sequence[Item], items_b: Sequence[Item], metric: str = "acc") -> Comparison:
    """Compare two models item by item; all items weigh the same, whatever their task.

    The interval is Newcombe's for paired proportions (1998, method 10): Wilson's intervals of the
    two means, joined with the correlation of the pairs. Unlike a bootstrap it stays honest when no
    item differs.

    Args:
        items_a: Of the first model, usually the baseline.
        items_b: Of the second model; the same items, in any order.
        metric: One that is 0 or 1 per item; items without it are left out.

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
    """How much better the second model is, and the bounds of the 95 % interval; -1..1."""

    mean: float
    low: float
    high: float
    items: int


def compare_seeds(
    runs_a: Sequence[Sequence[Item]], runs_b: Sequence[Sequence[Item]], metric: str = "acc"
) -> Difference:
    """Compare two models of several seeds each, item by item.

    With one run each this is `compare`. Otherwise an item's outcome is its mean over the runs of a
    model, and the interval is the normal one over the items: it takes the seeds as given, and says
    nothing about seeds that were not run. It is never narrower than 3 items in all on either side,
    so that no difference anywhere is no certainty.

    Args:
        runs_a: The items of every run of the first model.
        runs_b: Of the second model; the same items.
        metric: One that is 0 or 1 per item; items without it are left out.

    Raises:
        UserError: as `compare`.
    """
    if len(runs_a) == 1 and len(runs_b) == 1:
        found = compare(runs_a[0], runs_b[0], metric)
        return Difference(found.difference, found.low, found.high, found.items)
    for run in (*runs_a, *runs_b):
        compare(runs_a[0], run, metric)  # the same items everywhere
    a, b = _means(runs_a, metric), _means(runs_b, metric)
    apart = [b[key] - a[key] for key in a]
    n, mean = len(apart), statistics.fmean(apart)
    reach = max(1.96 * statistics.pstdev(apart) / math.sqrt(n), 3 / n)
    return Difference(mean, max(mean - reach, -1.0), min(mean + reach, 1.0), n)


def _means(runs: Sequence[Sequence[Item]], metric: str) -> dict[tuple[str, str, str, int], float]:
    outcomes = [_outcomes(run, metric) for run in runs]
    return {key: statistics.fmean(run[key] for run in outcomes) for key in outcomes[0]}


def _outcomes(items: Sequence[Item], metric: str) -> dict[tuple[str, str, str, int], bool]:
    """Right or wrong by task, item, prompt, and how often that item came before."""
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
    difference = (counts.gained - counts.lost) / n
    low, high = _interval(counts, difference)
    return Comparison(
        metric=metric,
        items=n,
        gained=counts.gained,
        lost=counts.lost,
        difference=difference,
        low=low,
        high=high,
        p=float(binomtest(counts.gained, changed, 0.5).pvalue) if changed else 1.0,
    )


def _interval(counts: _Counts, difference: float) -> tuple[float, float]:
    from scipy.stats import binomtest

    n = sum(counts)
    right = (counts.both + counts.gained, counts.both + counts.lost)  # second model, first model
    (low_b, high_b), (low_a, high_a) = (
        binomtest(k, n).proportion_ci(0.95, method="wilson") for k in right
    )
    b, a = (k / n for k in right)
    phi = _correlation(counts)

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    return (
        max(difference - reach(b - low_b, high_a - a), -1.0),
        min(difference + reach(high_b - b, a - low_a), 1.0),
    )


def _correlation(counts: _Counts) -> float:
    """Phi of the two-by-two table, a positive one corrected for continuity as Newcombe does."""
    both, lost, gained, neither = counts
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    if margins == 0:
        return 0.0
    product = float(both * neither - lost * gained)
    if product > 0:
        product = max(product - sum(counts) / 2, 0.0)
    return product / math.sqrt(margins)
