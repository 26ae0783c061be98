"""The importance of experts: the rise of the model's loss without each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.calibration.passes.leave_one_out import LeaveOneOut
from harness.calibration.walk import Calibration
from harness.model.view import MoEModel


@dataclass(frozen=True)
class Importance:
    """Mean token losses in nats: of the model, and without each expert in turn."""

    base: float
    losses: dict[int, dict[int, float]]
    """Per block and expert, by their numbers in the base model."""

    def table(self) -> dict[str, Any]:
        """As a note holds it: {block: {expert: loss}, "base": loss}, numbers as text."""
        losses = {
            str(block): {str(expert): loss for expert, loss in layer.items()}
            for block, layer in self.losses.items()
        }
        return {**losses, "base": self.base}


def leave_one_out(model: MoEModel, calibration: Calibration) -> Importance:
    """Expert importance I_{i,j} (Yang et al. 2024, arXiv 2411.01016, section 3.1).

    I_{i,j} is the cross-entropy of the model whose block i has lost expert j, its router row
    included, averaged over all calibration tokens. All are measured on the model as it is; zeros
    where there are no tokens.

    Raises:
        Refused: the model has no experts.
    """
    model.moe_blocks()
    predicted = max(1, _predicted(calibration))
    losses: dict[int, dict[int, float]] = {}
    base: Tensor | None = None
    for block in calibration.walk(model):
        if block.experts:
            leaving = block.collect(LeaveOneOut(block, base))
            base, means = leaving.base, (leaving.sums / predicted).tolist()
            losses[block.index] = {expert: means[expert] for expert in block.experts}
    return Importance(0.0 if base is None else float(base.sum()) / predicted, losses)


def _predicted(calibration: Calibration) -> int:
    """Tokens with a loss."""
    return sum(int((b["labels"][:, 1:] != -100).sum()) for b in calibration.batches())
