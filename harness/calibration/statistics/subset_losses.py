"""Exact reconstruction losses of all subsets of experts of some sizes, from one pass."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.calibration.observe import Seen
from harness.calibration.statistic import Statistic
from harness.calibration.statistics.grams import grams, ranks_of, refuse_unless_plain
from harness.calibration.statistics.outputs import Outputs
from harness.calibration.statistics.squares import squares
from harness.model.view import Block


class SubsetLosses(Statistic):
    """Loss of every way to drop `dropped` experts (Lu et al. 2024, as coded).

    `losses[n]` is the sum over calibration batches of the unsquared Frobenius norm of the MoE
    layer's output minus what the layer gives with the n-th subset dropped.

    Args:
        dropped: Experts to drop.
        target: Outputs to match; None for the block's own.
        also: Other numbers of experts to drop, whose losses the same pass takes. What is cached is
            that of the set of numbers, whichever of them is asked for.
    """

    aside: ClassVar[tuple[str, ...]] = ("_dropped", "_target")

    def __init__(
        self, dropped: int, *, target: Outputs | None = None, also: tuple[int, ...] = ()
    ) -> None:
        self.sizes = sorted({dropped, *also})
        self.target_key = target.key if target else ""
        self._dropped = dropped
        self._target = target

    def start(self, block: Block) -> None:
        """Zero losses.

        Raises:
            Refused: the block's routing is not the plain top-k.
        """
        refuse_unless_plain(block)
        self._experts = block.experts
        self._groups = [[block.experts.index(one) for one in group] for group in block.groups]
        every = [self._subsets(size) for size in self.sizes]
        self._kept = torch.cat([_kept(subsets, len(block.experts)) for subsets in every])
        before = sum(map(len, every[: self.sizes.index(self._dropped)]))
        self._own = slice(before, before + len(self.subsets))
        self.of_all_sizes = torch.zeros(len(self._kept), dtype=torch.float64)
        self._ranks = ranks_of(block, max(self.sizes))

    def update(self, seen: Seen) -> None:
        """Add one batch: the square root of its summed squared errors, for every subset."""
        rows = torch.arange(len(seen.x), device=seen.x.device)
        target = self._target.batches[seen.batch] if self._target else None
        total = torch.zeros_like(self.of_all_sizes)
        for part in grams(seen, self._ranks, rows=rows, target=target):
            for piece in squares(part, part.top_k):
                total += piece.sums(self._kept).cpu()
        self.of_all_sizes += total.clamp_min(0).sqrt()

    def result(self) -> dict[str, Tensor]:
        """The losses alone: the subsets follow from the sizes."""
        return {"of_all_sizes": self.of_all_sizes}

    @property
    def subsets(self) -> Tensor:
        """int64 [subsets, dropped]: base numbers dropped, in lexicographic order."""
        return torch.tensor(self._experts)[self._subsets(self._dropped)]

    @property
    def losses(self) -> Tensor:
        """fp64 [subsets] that drop `dropped` experts."""
        return self.of_all_sizes[self._own]

    def _subsets(self, size: int) -> Tensor:
        """All sets of `size` experts, counted among those left, int64 [subsets, size].

        Equally many of each group where groups limit the router.
        """
        if len(self._groups) == 1:
            plain = list(itertools.combinations(range(len(self._experts)), size))
            return torch.tensor(plain, dtype=torch.int64)
        each = size // len(self._groups)
        parts = [itertools.combinations(group, each) for group in self._groups]
        sets = sorted(tuple(sorted(itertools.chain(*some))) for some in itertools.product(*parts))
        return torch.tensor(sets, dtype=torch.int64).view(len(sets), size)

    def best(self) -> tuple[int, ...]:
        """The dropped experts with the least loss; the first in lexicographic order on a tie."""
        return tuple(self.subsets[int(self.losses.argmin())].tolist())

    def table(self, most: int = 1000) -> dict[str, list[Any]]:
        """The subsets with the least losses, "dropped" as "a,b", at most `most`, in order."""
        order = self.losses.sort(stable=True).indices[:most].tolist()
        return {
            "dropped": [",".join(map(str, self.subsets[n].tolist())) for n in order],
            "losses": [float(self.losses[n]) for n in order],
        }


def _kept(dropped: Tensor, experts: int) -> Tensor:
    """The experts kept, bool [subsets, experts], from the places dropped, [subsets, dropped]."""
    return torch.ones(len(dropped), experts, dtype=torch.bool).scatter_(1, dropped, False)
