"""Enumeration on a Mixtral-shaped layer: one run of the layer per subset, and one pass for all.

Any implementation needs 2 expert evaluations per token and subset if it runs the layer, and
top-k + dropped = 6 at least if it evaluates each expert that a token may fall back on once. For
r = 4 kept (70 subsets) the ratio of the two is 23.3, for r = 4 and r = 6 together (98) it is 32.7.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.calibration.statistics.subset_losses import SubsetLosses
from tests.benchmarks.layers import Case, case, mixtral
from tests.benchmarks.pairs import Pairs, seconds

_PAIRS = 5


@pytest.fixture(scope="module")
def layer() -> Case:
    """4096 tokens in a Mixtral-shaped layer."""
    return case(mixtral())


def _kept(losses: SubsetLosses) -> Tensor:
    rows = torch.ones(len(losses.subsets), 8, dtype=torch.bool)
    return rows.scatter_(1, losses.subsets, False)


@pytest.mark.parametrize(
    ("name", "also", "evaluations"), [("eep-r4", (), 140), ("eep-r6-r4", (2,), 196)]
)
@pytest.mark.benchmark(timer=time.process_time)
def test_enumeration(
    name: str,
    also: tuple[int, ...],
    evaluations: int,
    layer: Case,
    benchmark: Any,
    report: Any,
) -> None:
    """A pair is ours whole and a fifth of the baseline's subsets; the pairs make all of them."""
    pairs = Pairs(ceiling=evaluations / 6)
    ours = {drop: SubsetLosses(drop, also=(*also, 4)) for drop in (4, *also)}
    for losses in ours.values():
        layer.take(losses)
    kept = torch.cat([_kept(losses) for losses in ours.values()])
    losses_ = torch.cat([losses.losses for losses in ours.values()])
    wanted = torch.zeros_like(losses_)

    def baseline() -> None:
        part = slice(len(pairs.baseline), None, _PAIRS)
        spent = seconds(lambda: wanted[part].copy_(layer.layer.losses(kept[part], layer.whole)))
        pairs.baseline.append(spent * len(kept) / len(kept[part]))

    def enumerate_all() -> None:
        pairs.ours.append(seconds(lambda: layer.take(ours[4])))

    benchmark.pedantic(enumerate_all, setup=baseline, rounds=_PAIRS)
    torch.testing.assert_close(losses_, wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours[4].losses, wanted[:70], rtol=1e-6, atol=0)
    report(name, pairs, subsets=len(kept))
