"""How sure a measured speedup is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Speedup:
    """A ratio of medians, baseline over compressed, with its 95 % interval."""

    ratio: float
    low: float
    high: float


def speedup(compressed: Sequence[float], baseline: Sequence[float], *, seed: int = 0) -> Speedup:
    """Ratio of the medians of paired repetitions, with a percentile bootstrap over the pairs.

    Pairs are resampled whole, because what slows the machine down slows both halves of a pair.
    The interval is widened to hold the ratio itself where the resamples miss it.

    Args:
        compressed: Seconds (or CPU seconds) of each repetition.
        baseline: The same of the baseline, in the same order.
        seed: Of the resampling; the same numbers give the same interval.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    if len(compressed) != len(baseline) or not compressed:
        raise ValueError(f"{len(compressed)} repetitions cannot be paired with {len(baseline)}")
    times = np.array([baseline, compressed], dtype=np.float64)  # [2, R]
    pairs = np.random.default_rng(seed).integers(times.shape[1], size=(RESAMPLES, times.shape[1]))
    medians = np.median(times[:, pairs], axis=-1)  # [2, RESAMPLES]
    low, high = np.percentile(medians[0] / medians[1], PERCENTILES)
    ratio = float(np.median(times[0]) / np.median(times[1]))
    return Speedup(ratio, min(float(low), ratio), max(float(high), ratio))
