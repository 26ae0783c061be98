"""Random pruning: the baseline that every expert-pruning method has to beat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch

from harness.method import Calibration, Edit, KeepBudget, KeepExperts, Method, MoEModel, Note


class Random(KeepBudget, Method):
    """Keep experts drawn uniformly, in every MoE layer anew. Looks at no token."""

    name: ClassVar[str] = "random"
    reference: ClassVar[str] = "a uniform draw without replacement per layer"

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one KeepExperts per MoE layer."""
        kept = self.plan(model)
        generator = torch.Generator().manual_seed(self.seed)
        for block in model.moe_blocks():
            order = torch.randperm(len(block.experts), generator=generator)
            places = order[: kept[block.index]].sort().values
            experts = tuple(block.experts[place] for place in places.tolist())
            yield KeepExperts(block=block.index, experts=experts)
