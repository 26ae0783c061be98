"""Intervals hold the truth as often as they promise, and standard errors are their formulas."""

from __future__ import annotations

import math
import random
import statistics
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, norm

from harness.intervals import (
    CONFIDENCE,
    REACH,
    Speedup,
    error_of_difference,
    error_of_mean,
    error_of_share,
    error_over_seeds,
    newcombe,
    paired_normal,
    speedup,
    student_reach,
    total_speedup,
)

TRIALS = 400
FEWEST, MOST = binom.interval(0.99, TRIALS, CONFIDENCE)
"""Hits outside of which an interval that holds the truth 95 times in 100 is once in 100 tests."""


def speedups_that_hold(summary: Callable[..., Speedup], repetitions: int) -> int:
    """Intervals over pairs of noisy times that hold the true ratio of 2, of `TRIALS`."""
    generator, hits = np.random.default_rng(0), 0
    for _ in range(TRIALS):
        compressed, baseline = np.exp(0.1 * generator.standard_normal((2, repetitions)))
        measured = summary(compressed.tolist(), (2 * baseline).tolist())
        hits += measured.low <= 2 <= measured.high
    return hits


@pytest.mark.parametrize("repetitions", [5, 15])
def test_the_interval_of_a_ratio_of_medians_holds_the_truth(repetitions: int) -> None:
    hits = speedups_that_hold(speedup, repetitions)
    assert FEWEST <= hits < TRIALS  # no upper band: a median's bootstrap is wide, 96 % with 15


def test_fewer_repetitions_than_a_protocol_takes_promise_too_much() -> None:
    for repetitions in (3, 4):
        assert speedups_that_hold(speedup, repetitions) < FEWEST


def test_the_interval_of_a_ratio_of_totals_holds_the_truth() -> None:
    assert FEWEST <= speedups_that_hold(total_speedup, 50) <= MOST


def test_the_interval_of_paired_proportions_holds_the_truth() -> None:
    rng, hits = random.Random(0), 0
    both, lost, gained, neither = 0.70, 0.12, 0.05, 0.13
    for _ in range(TRIALS):
        kinds = rng.choices(range(4), (both, lost, gained, neither), k=100)
        interval = newcombe(*(kinds.count(kind) for kind in range(4)))
        hits += interval.low <= gained - lost <= interval.high
    assert FEWEST <= hits <= MOST


def test_the_interval_of_paired_means_holds_the_truth() -> None:
    rng, hits = random.Random(0), 0
    for _ in range(TRIALS):
        # Every item has its own chance under either model; their mean difference is -.05.
        chances = [rng.uniform(0.1, 0.9) for _ in range(150)]
        first = [sum(rng.random() < chance for _ in range(2)) for chance in chances]
        second = [sum(rng.random() < chance - 0.05 for _ in range(2)) for chance in chances]
        interval = paired_normal([(b - a) / 2 for a, b in zip(first, second, strict=True)])
        hits += interval.low <= -0.05 <= interval.high
    assert FEWEST <= hits <= MOST


def test_the_interval_of_a_mean_over_seeds_holds_the_truth() -> None:
    rng, hits = random.Random(0), 0
    for _ in range(TRIALS):
        values = [rng.gauss(3.0, 2.0) for _ in range(5)]
        hits += abs(statistics.fmean(values) - 3.0) <= student_reach(values)
    assert FEWEST <= hits <= MOST


def test_no_difference_anywhere_is_no_certainty() -> None:
    assert paired_normal([0.0] * 100) == (-0.03, 0.03)
    assert newcombe(20, 0, 0, 20).low < 0 < newcombe(20, 0, 0, 20).high


def test_newcombes_example() -> None:
    # Newcombe (1998), table II: 36, 12, 2, 0 gives 0.20 with 0.0569 to 0.3404.
    assert newcombe(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_a_speedup_is_deterministic_and_paired() -> None:
    compressed, baseline = [1.0, 1.2, 0.9, 1.1, 3.0], [2.0, 2.5, 1.7, 2.2, 6.1]
    first = speedup(compressed, baseline, seed=3)
    assert first == speedup(compressed, baseline, seed=3)
    assert first.ratio == 2.0
    assert first.low < 2.0 < first.high
    assert total_speedup(compressed, baseline).ratio == pytest.approx(14.5 / 7.2)
    # Pairs move together: where each pair has the same ratio there is nothing to be unsure of.
    assert speedup(compressed, [2 * value for value in compressed]) == (2.0, 2.0, 2.0)


def test_one_repetition_has_no_width() -> None:
    assert speedup([1.0], [3.0]) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(("compressed", "baseline"), [([1.0, 2.0], [1.0]), ([], [])])
def test_unpaired_repetitions_are_refused(compressed: list[float], baseline: list[float]) -> None:
    sentence = f"{len(compressed)} repetitions cannot be paired with {len(baseline)}"
    with pytest.raises(ValueError, match=sentence):
        speedup(compressed, baseline)


def test_standard_errors() -> None:
    assert error_of_share(0.2, 100) == pytest.approx(0.04)
    assert error_of_share(1.0, 0) == 0.0
    assert error_of_difference(3.0, 4.0) == 5.0
    assert error_of_mean([3.0, 4.0]) == 2.5
    assert error_over_seeds([0.5], [0.02]) == pytest.approx(0.02)
    # Two seeds, 0.1 apart: their sample variance over 2 is 0.05 squared.
    assert error_over_seeds([0.4, 0.5], [0.12, 0.12]) == pytest.approx(math.hypot(0.12, 0.05))
    assert pytest.approx(norm.ppf(0.5 + CONFIDENCE / 2), abs=5e-3) == REACH


def test_importing_them_is_cheap() -> None:
    code = "import sys, harness.intervals; print({'numpy', 'scipy', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
