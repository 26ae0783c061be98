"""EEP: the subset of experts that reconstructs the layer best, found by enumeration."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Self

from pydantic import model_validator

from harness.calibration.statistics.choices import MOST_RANKS
from harness.calibration.statistics.grams import ranks_of
from harness.method import (
    Block,
    Calibration,
    Edit,
    KeepBudget,
    KeepExperts,
    Method,
    MoEModel,
    Note,
    Outputs,
    Refused,
    SubsetLosses,
)

MOST_SUBSETS = 200_000
"""Number of subsets of a layer above which enumeration is refused: it would run for days."""


class EEP(KeepBudget, Method):
    """Expert pruning by enumeration (Lu et al. 2024, arXiv 2402.14800, section 3.1).

    Per layer, of all C(E, r) subsets of experts the one kept minimises the sum over calibration
    batches of || F(X) - F(X, kept) ||_F, F the MoE layer with its router restricted to the subset.
    The loss depends on the calibration's batch size, as in the authors' code.

    Layer-wise (default), every layer is decided on the original model's inputs. With `progressive`
    a layer's inputs come from the layers already pruned, its targets from the original model.

    Deviations: losses come from per-token Gram matrices in fp64 instead of one forward per subset
    (equal to rounding); any routing the model family uses, not only Mixtral's, where a
    group-limited router keeps equally many experts of each group; layers may have different
    numbers of experts.
    """

    name: ClassVar[str] = "eep"
    reference: ClassVar[str] = "Lu et al. 2024, arXiv 2402.14800: least sum_b ||F(X_b) - F_K(X_b)||"

    progressive: bool = False
    """Decide each layer on what the pruned layers before it give."""
    sizes: tuple[int, ...] = ()
    """Numbers of experts kept, of this cell and of others like it: one pass over the tokens takes
    the losses of all of them, and each of the cells finds that pass in the cache. `keep` is always
    among them. Changes no result; layer-wise only."""

    @model_validator(mode="after")
    def _layer_wise(self) -> Self:
        if self.sizes and self.progressive:
            raise ValueError("sizes cannot share a pass that is progressive; leave one of them out")
        if any(size < 1 for size in self.sizes):
            raise ValueError("sizes must be at least 1")
        return self

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one KeepExperts per MoE layer, and its losses."""
        drops = self.plan_drops(model)
        yield from self.told(model)
        also = {b.index: self._also(b, drops[b.index]) for b in model.moe_blocks()}
        for block in calibration.walk(model, follow="both" if self.progressive else "original"):
            dropped = drops.get(block.index)
            if not dropped:
                continue
            target = block.original.collect(Outputs()) if self.progressive else None
            losses = block.collect(SubsetLosses(dropped, target=target, also=also[block.index]))
            best = losses.best()
            yield Note(name="eep.losses", data={"block": block.index, **losses.table()})
            kept = tuple(expert for expert in block.experts if expert not in best)
            yield KeepExperts(block=block.index, experts=kept)

    def _also(self, block: Block, dropped: int) -> tuple[int, ...]:
        """The other numbers of dropped experts whose losses are taken in the same pass."""
        experts = len(block.experts)
        groups = len(block.groups)
        also = {experts - size for size in self.sizes if block.top_k <= size < experts}
        also = {size for size in also if size % groups == 0}
        for size in {dropped, *also}:
            _refuse_too_many(block, size)
        return tuple(sorted(also - {dropped}))


def _refuse_too_many(block: Block, dropped: int) -> None:
    experts = len(block.experts)
    instead = "use moe-i2-prune or greedy, or drop fewer experts"
    subsets = math.prod(math.comb(len(g), dropped // len(block.groups)) for g in block.groups)
    if subsets > MOST_SUBSETS:
        raise Refused(
            f"block {block.index}: dropping {dropped} of {experts} experts has {subsets:.2g} "
            f"subsets, more than the {MOST_SUBSETS:,} that enumeration takes on; {instead}."
        )
    ranks = ranks_of(block, dropped)
    if ranks > MOST_RANKS and block.grouping is None:
        raise Refused(
            f"block {block.index}: a token could choose among {ranks} experts, more than the "
            f"{MOST_RANKS} that enumeration takes on; {instead}."
        )
