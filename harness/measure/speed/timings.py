"""Runs that took turns, as a record has them."""

from __future__ import annotations

from collections.abc import Sequence

from harness.intervals import speedup
from harness.measure.speed.clock import Run, Span
from harness.records.record import Gain, Timing


def gain(ours: Sequence[Run], others: Sequence[Run], stage: int, seed: int) -> Gain:
    """The speed-up of `ours` over `others`, repetition by repetition.

    Args:
        ours: Runs of the one, in the order of repetitions.
        others: Of the other.
        stage: 0 for the prefill, 1 for decoding.
        seed: Of the resampling.
    """
    seconds = [[run[stage].seconds for run in runs] for runs in (ours, others)]
    ratio = speedup(seconds[0], seconds[1], seed=seed)
    return Gain(speedup=ratio.ratio, low=ratio.low, high=ratio.high)


def timing(ours: Sequence[Run], baseline: Sequence[Run], stage: int, seed: int) -> Timing:
    """Both models' repetitions of one stage; arguments as of `gain`."""
    mine, its = [run[stage] for run in ours], [run[stage] for run in baseline]
    return Timing(
        seconds=[span.seconds for span in mine],
        cpu_seconds=[span.cpu_seconds for span in mine],
        baseline_seconds=[span.seconds for span in its],
        baseline_cpu_seconds=[span.cpu_seconds for span in its],
        joules=_joules(mine),
        baseline_joules=_joules(its),
        **gain(ours, baseline, stage, seed).model_dump(),
    )


def _joules(spans: Sequence[Span]) -> list[float] | None:
    known = [span.joules for span in spans if span.joules is not None]
    return known if len(known) == len(spans) else None
