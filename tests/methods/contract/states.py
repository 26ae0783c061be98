"""States of a model that users bring to a method: whole, or compressed in one way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.editing.surgery import Routing
from harness.model.edits import (
    DropBlock,
    DropMoE,
    KeepExperts,
    LowRank,
    MergeExperts,
    SkipExperts,
)
from harness.model.view import MoEModel
from tests.methods.contract.calibrations import calibration

ROUTED = ("qwen2_moe", "mixtral", "deepseek_v2")
"""Families that differ in how they route; the first block of deepseek_v2 is dense."""
SHARED = ("qwen2_moe", "deepseek_v2")
"""Families with shared experts: where a third family would tell nothing more."""


@dataclass(frozen=True)
class State:
    """One state: what it is, how a whole model of 4 blocks and 6 experts gets there, and where."""

    summary: str
    bring: Callable[[MoEModel], None]
    families: tuple[str, ...] = ROUTED


def _whole(model: MoEModel) -> None:
    """Nothing was done to it."""


def _kept(router: Routing) -> Callable[[MoEModel], None]:
    def bring(model: MoEModel) -> None:
        model.apply(KeepExperts(block=1, experts=(0, 1, 3, 5), router=router))
        model.apply(KeepExperts(block=2, experts=(0, 1, 2, 4, 5), router=router))

    return bring


def _at_top_k(model: MoEModel) -> None:
    top_k = model.moe_blocks()[0].top_k
    model.apply(KeepExperts(block=2, experts=tuple(range(top_k))))


def _one_expert(model: MoEModel) -> None:
    model.apply(KeepExperts(block=2, experts=(4,)))


def _merged(model: MoEModel) -> None:
    four, five = ((0, 4), (1,), (2, 3), (5,)), ((0,), (1, 5), (2,), (3,), (4,))
    model.apply(MergeExperts(block=1, groups=four, weights=((1, 1), (1,), (2, 3), (1,))))
    model.apply(MergeExperts(block=2, groups=five, weights=((1,), (1, 2), (1,), (1,), (1,))))


def _low_rank(model: MoEModel) -> None:
    block = model.blocks[2]
    for expert, rank in ((0, 8), (3, 8), (5, 4)):
        for role in ("gate", "down"):
            name = f"experts.{expert}.{role}"
            u, s, v = torch.linalg.svd(block.weight(name), full_matrices=False)
            model.apply(LowRank.of(2, {name: (u[:, :rank] * s[:rank], v[:rank])}))


def _skipping(model: MoEModel) -> None:
    model.apply(SkipExperts(block=3, beta=0.5))


def _dropped(model: MoEModel) -> None:
    model.apply(DropMoE(block=3))
    model.apply(DropBlock(block=0))


def _no_experts(model: MoEModel) -> None:
    for block in model.moe_blocks():
        model.apply(DropMoE(block=block.index))


def _by(method: str, **options: Any) -> Callable[[MoEModel], None]:
    def bring(model: MoEModel) -> None:
        compress(model, [BoundStep(build(method, options), calibration())])

    return bring


STATES: dict[str, State] = {
    "whole": State("nothing was done to it", _whole),
    "uneven": State("layers of 4, 5 and 6 experts", _kept("rows")),
    "masked": State("4, 5 and 6 experts, the router masked", _kept("mask")),
    "preserved": State("4, 5 and 6 experts, the router preserved", _kept("preserve"), SHARED),
    "at top-k": State("one layer has as many experts as a token chooses", _at_top_k),
    "one expert": State("one layer has one expert", _one_expert, SHARED),
    "merged": State("6 experts merged into 4 in one layer, into 5 in another", _merged),
    "low-rank": State("some experts of one layer are factors, of ranks 8 and 4", _low_rank, SHARED),
    "sparse": State(
        "a third of the experts' weights is zero", _by("magnitude", sparsity=0.33), ("deepseek_v2",)
    ),
    "simulated": State("experts at 3 bits, dense in memory", _by("rtn", bits=3), ("deepseek_v2",)),
    "packed": State("experts at 4 bits, packed", _by("rtn", group=32), SHARED),
    "skipping": State("one layer skips experts of small weight", _skipping),
    "dropped": State("one MoE layer and one block are gone", _dropped, SHARED),
    "no experts": State("every MoE layer is gone", _no_experts, SHARED),
    "dense": State("a family without experts", _whole, ("llama",)),
}
