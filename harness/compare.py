"""Two models on the same items: the paired difference, its interval and its p-value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import UserError
from harness.record import Item


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
