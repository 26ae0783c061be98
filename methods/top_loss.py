"""TopLoss: the experts without which the model's loss rises least."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from harness.calibration.passes.importance import leave_one_out
from harness.calibration.walk import Calibration
from harness.method.contract import Method, Note
from harness.method.counts import KeepBudget
from harness.model.edits import Edit, KeepExperts
from harness.model.view import MoEModel


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
        kept = {
            block.index: self.kept(len(block.experts), block.top_k, where=f"block {block.index}")
            for block in model.moe_blocks()
        }
        importance = leave_one_out(model, calibration)
        yield Note(name="moe-i2.importance", data=importance.table())
        for index, losses in importance.losses.items():
            dropped = sorted(losses, key=losses.__getitem__)[: len(losses) - kept[index]]
            if dropped:
                left = tuple(expert for expert in losses if expert not in dropped)
                yield KeepExperts(block=index, experts=left)
