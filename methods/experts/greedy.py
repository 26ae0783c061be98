"""Greedy search over subsets of experts: remove one at a time, then swap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from harness.method import (
    Block,
    Calibration,
    Edit,
    KeepBudget,
    KeepExperts,
    Method,
    MoEModel,
    Note,
    SubsetErrors,
)


class Greedy(KeepBudget, Method):
    """Expert pruning by greedy search on EEP's loss (ours).

    Per layer, on the original model's inputs, experts go one at a time: each time the one whose
    absence leaves the least sum over calibration batches of || F(X) - F(X, kept) ||_F (Lu et al.
    2024). Then a kept and a dropped expert change places, always the pair that lowers the loss
    most, until none does. For E experts of which r go this takes about r E losses and r (E - r)
    per swap, where enumeration takes C(E, r); the subset found may only be better in a local sense.
    A group-limited router loses equally many experts of each group, and swaps stay within one.
    """

    name: ClassVar[str] = "greedy"
    reference: ClassVar[str] = "ours: greedy removal and swaps on sum_b ||F(X_b) - F_K(X_b)||"

    swaps: bool = True
    """Improve the subset that greedy removal ends with by swaps."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one KeepExperts per MoE layer, and its loss."""
        drops = self.plan_drops(model)
        yield from self.told(model)
        for block in calibration.walk(model, follow="original"):
            drop = drops.get(block.index)
            if not drop:
                continue
            errors = block.collect(SubsetErrors(drop))
            group = _groups(block)  # [experts left]
            kept = _removed(errors, group, drop)  # [experts left]
            swaps = 0
            if self.swaps:
                kept, swaps = _swapped(errors, kept, group)
            loss = float(errors.losses(kept.unsqueeze(0))[0])
            data = {"block": block.index, "loss": loss, "swaps": swaps}
            yield Note(name="greedy.losses", data=data)
            experts = torch.tensor(block.experts)[kept].tolist()
            yield KeepExperts(block=block.index, experts=tuple(experts))


def _groups(block: Block) -> Tensor:
    """The group of each expert, int64 [experts left]; 0 where no groups limit the router."""
    group = {expert: place for place, some in enumerate(block.groups) for expert in some}
    return torch.tensor([group[expert] for expert in block.experts])


def _removed(errors: SubsetErrors, group: Tensor, drop: int) -> Tensor:
    """Experts left after `drop` greedy removals, equally many of each group, bool [experts]."""
    kept = torch.ones(len(group), dtype=torch.bool)
    most = drop // (int(group.max()) + 1)
    for _ in range(drop):
        lost = torch.bincount(group[~kept], minlength=int(group.max()) + 1)  # [groups]
        places = (kept & (lost < most)[group]).nonzero()  # [candidates, 1]
        candidates = kept.repeat(len(places), 1).scatter_(1, places, False)
        kept = candidates[int(errors.losses(candidates).argmin())]
    return kept


def _swapped(errors: SubsetErrors, kept: Tensor, group: Tensor) -> tuple[Tensor, int]:
    """The best swap within a group, until none lowers the loss; and how many there were."""
    swaps = 0
    loss = float(errors.losses(kept.unsqueeze(0))[0])
    while True:
        pairs = torch.cartesian_prod(kept.nonzero()[:, 0], (~kept).nonzero()[:, 0])
        pairs = pairs[group[pairs[:, 0]] == group[pairs[:, 1]]]  # [pairs, 2]
        candidates = kept.repeat(len(pairs), 1)
        candidates.scatter_(1, pairs, torch.tensor([[False, True]]).expand(len(pairs), 2))
        losses = errors.losses(candidates)
        best = int(losses.argmin())
        # Rounding alone is no improvement; "not less" ends the search whatever is compared.
        if not float(losses[best]) < loss * (1 - 1e-9):
            return kept, swaps
        kept, loss, swaps = candidates[best], float(losses[best]), swaps + 1
