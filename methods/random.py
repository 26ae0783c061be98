"""The baseline that every expert-pruning method has to beat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch

from harness.calibration.walk import Calibration
from harness.method.contract import Method, Note
from harness.method.counts import KeepBudget
from harness.model.edits import Edit, KeepExperts
from harness.model.view import MoEModel


class Random(KeepBudget, Method):
    """Keep experts drawn uniformly, in every MoE layer anew. Looks at no token."""

    name: ClassVar[str] = "random"
    reference: ClassVar[str] = "a uniform draw without replacement per layer"

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one KeepExperts per MoE layer."""
        generator = torch.Generator().manual_seed(self.seed)
        for block in model.moe_blocks():
            count = len(block.experts)
            kept = self.kept(count, block.top_k, where=f"block {block.index}")
            places = torch.randperm(count, generator=generator)[:kept].sort().values
            experts = tuple(block.experts[place] for place in places.tolist())
            yield KeepExperts(block=block.index, experts=experts)
