"""Clocks of a run: wall, CPU and energy, read when the devices have done what they were told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch
from transformers import PreTrainedModel

from harness.measure.nvml import Joules


@dataclass(frozen=True)
class Span:
    """Between two marks; or, of a single mark, since some moment."""

    seconds: float
    cpu_seconds: float
    """CPU time of the whole process: all its threads together."""
    joules: float | None = None
    """Energy used by the accelerators; None where nothing measures it."""

    def __sub__(self, other: Span) -> Span:
        joules = None if self.joules is None or other.joules is None else self.joules - other.joules
        return Span(self.seconds - other.seconds, self.cpu_seconds - other.cpu_seconds, joules)


Run = tuple[Span, Span]
"""The prefill; and the decoding of one token, the median over tokens (of joules the mean)."""


class Clock:
    """Reads all clocks at once.

    Args:
        lm: The model whose devices are waited for.
        joules: Reads the energy used so far; None where nothing measures it.
    """

    def __init__(self, lm: PreTrainedModel, joules: Joules | None = None) -> None:
        self._cuda = {p.device for p in lm.parameters() if p.device.type == "cuda"}
        self._joules = joules

    def now(self) -> Span:
        """The clocks, when the devices have finished."""
        for device in self._cuda:
            torch.cuda.synchronize(device)
        joules = self._joules() if self._joules else None
        return Span(time.perf_counter(), time.process_time(), joules)


def run_of(marks: Sequence[Span]) -> Run:
    """The spans of a run.

    Args:
        marks: At the start, after the prefill, and after each decoded token.
    """
    prefill, *steps = (end - start for start, end in pairwise(marks))
    decoding = marks[-1] - marks[1]
    return prefill, Span(
        median(step.seconds for step in steps),
        median(step.cpu_seconds for step in steps),
        # Counters of energy are too coarse for one token.
        None if decoding.joules is None else decoding.joules / len(steps),
    )
