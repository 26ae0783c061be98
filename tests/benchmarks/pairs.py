"""Pairs of timings, taken in turn, and the spread of their ratio."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds, of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


@dataclass
class Pairs:
    """CPU seconds of both sides, each pair taken one right after the other.

    Attributes:
        ceiling: The ratio of the expert evaluations both sides cannot do without; 0 for unknown.
        baseline: Of the whole baseline, per pair; where a pair runs a part of it, in proportion.
        ours: Of ours.
    """

    ceiling: float = 0.0
    baseline: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    def result(self) -> dict[str, float]:
        """Ratio of the sums, the lowest and highest of the pairs, and mean seconds."""
        ratios = [a / b for a, b in zip(self.baseline, self.ours, strict=True)]
        collected = {
            "ratio": sum(self.baseline) / sum(self.ours),
            "low": min(ratios),
            "high": max(ratios),
            "pairs": len(ratios),
            "baseline_cpu_s": sum(self.baseline) / len(ratios),
            "ours_cpu_s": sum(self.ours) / len(ratios),
        }
        if self.ceiling:
            collected["ceiling"] = self.ceiling
        return {name: round(value, 3) for name, value in collected.items()}
