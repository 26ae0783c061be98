"""Random pruning: the baseline that every expert-pruning method has to beat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch

from harness.method import Calibration, Edit, KeepBudget, KeepExperts, Method, MoEModel, Note, first


class Random(KeepBudget, Method):
    """Keep experts drawn uniformly, in every MoE layer anew. Looks at no token."""

    name: ClassVar[str] = "random"
    reference: ClassVar[str] = "a uniform draw without replacement per layer"
    calibrated: ClassVar[bool] = False

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one KeepExperts per MoE layer."""
        kept = self.plan(model)
        yield from self.told(model)
        generator = torch.Generator().manual_seed(self.seed)
        for block in model.moe_blocks():
            order = torch.randperm(len(block.experts), generator=generator)
            drawn = [block.experts[place] for place in order.tolist()]
            experts = first(drawn, kept[block.index], block.groups)
            yield KeepExperts(block=block.index, experts=experts)
