"""Genetic search on a Qwen-shaped layer: the losses of its candidates, and where it ends."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.calibration.statistics.subset_errors import SubsetErrors
from methods.moe_i2.genetic import SearchResult, search
from tests.benchmarks.layers import case, qwen
from tests.benchmarks.pairs import Pairs, seconds

_PAIRS = 5
_DIRECT = 50


def _search(fitness: Any, experts: int, drop: int, **options: Any) -> SearchResult:
    generator = torch.Generator().manual_seed(0)
    return search(fitness, experts=experts, drop=drop, generator=generator, **options)


@pytest.mark.benchmark(timer=time.process_time)
def test_fitness(benchmark: Any, report: Any) -> None:
    """Per distinct candidate of a real search, the preparation and the search itself included.

    A pair is a whole search of ours and ten candidates of the baseline, five pairs make fifty.
    """
    layer, drop = case(qwen()), 15
    pairs = Pairs()
    asked: list[Tensor] = []
    told: list[Tensor] = []
    generator = torch.Generator().manual_seed(1)

    def fitness(kept: Tensor) -> Tensor:
        asked.append(kept)
        told.append(errors.losses(kept))
        return told[-1]

    errors = SubsetErrors(drop)
    layer.take(errors)
    evaluated = _search(fitness, layer.experts, drop).evaluated
    candidates, ours = torch.cat(asked), torch.cat(told)
    assert len(candidates) == evaluated
    some = torch.randperm(evaluated, generator=generator)[:_DIRECT]
    wanted = torch.zeros(_DIRECT, dtype=torch.float64)

    def baseline() -> None:
        part = slice(len(pairs.baseline), None, _PAIRS)
        rows = some[part]
        spent = seconds(
            lambda: wanted[part].copy_(layer.layer.losses(candidates[rows], layer.whole))
        )
        pairs.baseline.append(spent * evaluated / len(rows))

    def whole_search() -> None:
        errors = SubsetErrors(drop)
        layer.take(errors)
        assert _search(errors.losses, layer.experts, drop).evaluated == evaluated

    benchmark.pedantic(
        lambda: pairs.ours.append(seconds(whole_search)), setup=baseline, rounds=_PAIRS
    )
    torch.testing.assert_close(ours[some], wanted, rtol=1e-6, atol=0)
    report("genetic-fitness", pairs, candidates=evaluated)


@pytest.mark.benchmark(timer=time.process_time)
def test_whole_search(benchmark: Any, report: Any) -> None:
    """Small enough for both to run whole: ours ends no worse."""
    layer, drop = case(qwen(experts=16, hidden=64, ffn=32), tokens=256), 6
    options = {"population": 30, "iterations": 15}
    pairs = Pairs()
    ends: dict[str, SearchResult] = {}

    def baseline() -> None:
        def direct(kept: Tensor) -> Tensor:
            return layer.layer.losses(kept, layer.whole)

        spent = seconds(lambda: ends.update(direct=_search(direct, 16, drop, **options)))
        pairs.baseline.append(spent)

    def whole_search() -> None:
        errors = SubsetErrors(drop)
        layer.take(errors)
        ends["ours"] = _search(errors.losses, 16, drop, **options)

    benchmark.pedantic(lambda: pairs.ours.append(seconds(whole_search)), setup=baseline, rounds=2)
    [ours] = layer.layer.losses(ends["ours"].kept, layer.whole).tolist()
    [theirs] = ends["direct"].losses.tolist()
    assert ours <= theirs * (1 + 1e-9)
    report("genetic-search", pairs, loss=ours, baseline_loss=theirs)
