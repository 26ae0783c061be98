"""Intervals and standard errors: all that say how sure a number is are here.

Proportions are in 0..1. Intervals are two-sided and promise to hold the truth 95 times in 100.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
"""Share of the intervals that hold the truth."""
REACH = 1.96
"""Standard errors on either side of a normal interval: `scipy.stats.norm.ppf(0.975)`, rounded."""
RESAMPLES = 10_000
"""Draws of a bootstrap."""


class Interval(NamedTuple):
    """Bounds of a 95 % interval."""

    low: float
    high: float


class Speedup(NamedTuple):
    """A ratio of times, baseline over compressed model, and the bounds of its 95 % interval."""

    ratio: float
    low: float
    high: float


def error_of_share(share: float, items: int) -> float:
    """Standard error of a share of items: sqrt(p (1 - p) / n), the binomial's.

    lm-eval divides by n - 1 instead; where it gave an error, that one is used.

    Args:
        share: The items that are right, over all; 0..1.
        items: Their number; 0 counts as 1.
    """
    return math.sqrt(max(share * (1 - share), 0.0) / max(items, 1))


def error_of_mean(errors: Sequence[float]) -> float:
    """Standard error of the unweighted mean of independent numbers, from those of the numbers."""
    return math.hypot(*errors) / len(errors)


def error_of_difference(first: float, second: float) -> float:
    """Standard error of the difference of two independent numbers, from those of the two."""
    return math.hypot(first, second)


def error_over_seeds(values: Sequence[float], errors: Sequence[float]) -> float:
    """Standard error of the mean over seeds that share their items.

    More seeds leave the items' error as it is, and add the error of their own mean: the root of
    the errors' mean square plus the values' sample variance over their number.

    Args:
        values: One per seed.
        errors: Standard error of each, by its items.
    """
    spread = statistics.variance(values) / len(values) if len(values) > 1 else 0.0
    return math.sqrt(statistics.fmean(error**2 for error in errors) + spread)


def newcombe(both: int, lost: int, gained: int, neither: int) -> Interval:
    """95 % interval of the difference of two paired proportions, second minus first.

    Newcombe 1998 ("Improved confidence intervals for the difference between binomial proportions
    based on paired data", Statistics in Medicine 17, method 10): Wilson's intervals of the two
    proportions, joined with the correlation of the pairs. Unlike a bootstrap it stays honest when
    no item differs.

    Args:
        both: Items that are right in both.
        lost: Items that are right in the first alone.
        gained: Items that are right in the second alone.
        neither: Items that are right in none.
    """
    from scipy.stats import binomtest

    n = both + lost + gained + neither
    difference = (gained - lost) / n
    right = (both + gained, both + lost)  # second, first
    (low_b, high_b), (low_a, high_a) = (
        binomtest(k, n).proportion_ci(CONFIDENCE, method="wilson") for k in right
    )
    b, a = (k / n for k in right)
    phi = _correlation(both, lost, gained, neither)

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    return Interval(
        max(difference - reach(b - low_b, high_a - a), -1.0),
        min(difference + reach(high_b - b, a - low_a), 1.0),
    )


def _correlation(both: int, lost: int, gained: int, neither: int) -> float:
    """Phi of the two-by-two table, a positive one corrected for continuity as Newcombe does."""
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    if margins == 0:
        return 0.0
    product = float(both * neither - lost * gained)
    if product > 0:
        product = max(product - (both + lost + gained + neither) / 2, 0.0)
    return product / math.sqrt(margins)


def paired_normal(differences: Sequence[float]) -> Interval:
    """95 % interval of the mean of paired differences, each in -1..1: the normal one.

    It never reaches less than 3 / n to either side, so that no difference anywhere is no
    certainty (the rule of three: Hanley and Lippman-Hand 1983, "If nothing goes wrong, is
    everything all right?", JAMA 249).

    Args:
        differences: One per item.
    """
    n, mean = len(differences), statistics.fmean(differences)
    reach = max(REACH * statistics.pstdev(differences) / math.sqrt(n), 3 / n)
    return Interval(max(mean - reach, -1.0), min(mean + reach, 1.0))


def student_reach(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of the mean of independent numbers, by Student's t.

    Args:
        values: At least two, such as one per seed.
    """
    from scipy.stats import t

    n = len(values)
    quantile = float(t.ppf(0.5 + CONFIDENCE / 2, n - 1))
    return quantile * statistics.stdev(values) / math.sqrt(n)


def speedup(compressed: Sequence[float], baseline: Sequence[float], *, seed: int = 0) -> Speedup:
    """Ratio of the medians of paired repetitions, with its percentile bootstrap interval.

    With fewer than 5 repetitions the interval holds the truth less often than it promises.
    One repetition says nothing of its noise: both bounds are then the ratio itself.

    Args:
        compressed: Seconds (or CPU seconds) of each repetition.
        baseline: The baseline's, in the same order.
        seed: Seed of the resampling; the same numbers give the same interval.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    import numpy as np

    return _ratio(np.median, compressed, baseline, seed)


def total_speedup(
    compressed: Sequence[float], baseline: Sequence[float], *, seed: int = 0
) -> Speedup:
    """Ratio of the totals of paired times, with its percentile bootstrap interval.

    Args:
        compressed: Seconds of each piece of work.
        baseline: The baseline's for the same pieces, in the same order.
        seed: Seed of the resampling; the same numbers give the same interval.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    import numpy as np

    return _ratio(np.sum, compressed, baseline, seed)


def _ratio(
    summary: Callable[..., Any], compressed: Sequence[float], baseline: Sequence[float], seed: int
) -> Speedup:
    """Ratio of two summaries, and the percentile bootstrap of it (Efron and Tibshirani 1993).

    Pairs are resampled whole, because what slows the machine down slows both halves of a pair.
    The interval is widened to hold the ratio itself where the resamples miss it.
    """
    import numpy as np
    from scipy.stats import bootstrap

    if len(compressed) != len(baseline) or len(compressed) == 0:
        raise ValueError(f"{len(compressed)} repetitions cannot be paired with {len(baseline)}")
    times = np.array([baseline, compressed], dtype=np.float64)  # [2, R]

    def over(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(summary(first, axis=axis) / summary(second, axis=axis))

    ratio = float(over(times[0], times[1], axis=-1))
    if times.shape[1] == 1:
        return Speedup(ratio, ratio, ratio)
    low, high = bootstrap(
        tuple(times),
        over,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return Speedup(ratio, min(float(low), ratio), max(float(high), ratio))
