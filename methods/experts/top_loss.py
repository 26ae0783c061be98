"""TopLoss: the experts without which the model's loss rises least."""

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
    keep_highest,
    leave_one_out,
)


class TopLoss(KeepBudget, Method):
    """The baseline "TopLoss" of MoE-I² (Yang et al. 2024, arXiv 2411.01016, table 6).

    Per layer the experts with the smallest importance I_{i,j} go: the cross-entropy of the whole
    model without expert j of layer i, one expert at a time, on the original model.

    The paper only names this baseline; what it ranks by and that every layer loses equally many is
    our reading.
    """

    name: ClassVar[str] = "top-loss"
    reference: ClassVar[str] = "Yang et al. 2024, arXiv 2411.01016, table 6: lowest loss without j"

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield the importance, then one KeepExperts per MoE layer."""
        kept = self.plan(model)
        yield from self.told(model)
        importance = leave_one_out(model, calibration)
        yield Note(name="moe-i2.importance", data=importance.table())
        yield from keep_highest(model, importance.losses, kept)
