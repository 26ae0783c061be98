"""Pruning by frequency: the experts that the fewest tokens are routed to go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from harness.method import (
    Calibration,
    Edit,
    KeepBudget,
    Method,
    MoEModel,
    Note,
    TokenCount,
    keep_highest,
)


class Frequency(KeepBudget, Method):
    """Frequency pruning, one-shot: the baseline of REAP (Lasby et al. 2025, arXiv 2510.13999).

    An expert's score is the number of calibration tokens whose top-k it is in, in the original
    model. The lowest scores of every layer go; of a tie the lower numbers.
    """

    name: ClassVar[str] = "frequency"
    reference: ClassVar[str] = "Lasby et al. 2025, arXiv 2510.13999: fewest tokens with e in top-k"

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield the scores, and KeepExperts for every layer that loses some."""
        kept = self.plan(model)
        yield from self.told(model)
        scores: dict[int, dict[int, float]] = {}
        for block in calibration.walk(model):
            if block.experts:
                tokens = block.collect(TokenCount())
                scores[block.index] = {e: int(tokens.count[e]) for e in block.experts}
        yield Note(name="frequency.scores", data=scores)
        yield from keep_highest(model, scores, kept)
