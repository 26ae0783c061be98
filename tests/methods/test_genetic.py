"""The genetic search over made-up losses."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.moe_i2.genetic import SearchResult, search


class Landscape:
    """A loss with interactions between experts; remembers what it was asked."""

    def __init__(self, experts: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        factor = torch.randn(experts, 3, generator=generator, dtype=torch.float64)
        self.form = factor @ factor.T + torch.diag(torch.rand(experts, generator=generator))
        self.calls: list[Tensor] = []

    def __call__(self, kept: Tensor) -> Tensor:
        self.calls.append(kept)
        gone = (~kept).double()
        return (gone @ self.form * gone).sum(1).sqrt()


def run(landscape: Landscape, drop: int, seed: int = 0, **options: Any) -> SearchResult:
    generator = torch.Generator().manual_seed(seed)
    experts = len(landscape.form)
    return search(landscape, experts=experts, drop=drop, generator=generator, **options)


def test_it_finds_the_best_of_all() -> None:
    landscape = Landscape(14)
    dropped = list(itertools.combinations(range(14), 5))
    kept = torch.ones(len(dropped), 14, dtype=torch.bool)
    kept.scatter_(1, torch.tensor(dropped), False)
    every = landscape(kept)
    for seed in range(3):
        result = run(landscape, 5, seed)
        assert torch.equal(result.kept[0], kept[every.argmin()])
        assert result.evaluated < len(every)


def test_what_it_returns() -> None:
    landscape = Landscape(20)
    result = run(landscape, 6, best=7, iterations=12, population=30)
    assert result.kept.shape == (7, 20)
    assert (result.kept.sum(1) == 14).all()
    assert len(set(map(tuple, result.kept.tolist()))) == 7
    assert torch.equal(result.losses, result.losses.sort().values)
    assert torch.equal(result.losses, landscape(result.kept))
    assert len(result.best) == len(result.mean) == 13
    assert result.best[-1] == float(result.losses[0])
    assert list(result.best) == sorted(result.best, reverse=True)  # the best survive
    assert all(best <= mean for best, mean in zip(result.best, result.mean, strict=True))
    assert result.mean[-1] < result.mean[0]


def test_every_set_is_asked_for_once_and_a_generation_together() -> None:
    landscape = Landscape(9)
    result = run(landscape, 3, iterations=20, population=25)
    asked = [tuple(row) for call in landscape.calls for row in call.tolist()]
    assert len(asked) == len(set(asked)) == result.evaluated
    assert len(landscape.calls) <= 21
    assert all(int(row.count(False)) == 3 for row in asked)
    assert result.evaluated <= math.comb(9, 3)


def test_it_follows_its_generator() -> None:
    one, same, other = (run(Landscape(20), 6, seed, iterations=5) for seed in (0, 0, 1))
    assert torch.equal(one.kept, same.kept)
    assert one.mean == same.mean
    assert one.mean != other.mean


def test_children_are_of_the_union_of_two_parents() -> None:
    landscape = Landscape(30)
    run(landscape, 4, iterations=1, population=40, parents=0.1, mutation=0.0)
    first, children = (~call for call in landscape.calls)
    order = landscape(~first).argsort(stable=True)
    parents = first[order[:4]]
    unions = [a | b for a, b in itertools.combinations(parents, 2)]
    assert len(children) > 3
    for child in children:
        assert any(not bool((child & ~union).any()) for union in unions)


@pytest.mark.parametrize("replaced", [1, 2])
def test_mutation_replaces_a_few(replaced: int) -> None:
    landscape = Landscape(40)
    options: dict[str, Any] = {"iterations": 1, "population": 60, "parents": 0.01}
    run(landscape, 5, mutation=1.0, replaced=replaced, **options)
    first, children = (~call for call in landscape.calls)
    parent = first[landscape(~first).argmin()]  # the only one: children are itself, mutated
    changed = (children & ~parent).sum(1)
    assert set(changed.tolist()) == set(range(1, replaced + 1))


@pytest.mark.parametrize(("experts", "drop"), [(4, 0), (4, 4), (4, 1), (1, 0)])
@pytest.mark.parametrize("population", [1, 2, 100])
def test_the_smallest_cases(experts: int, drop: int, population: int) -> None:
    result = run(Landscape(experts), drop, best=50, population=population)
    assert len(result.kept) == result.evaluated <= math.comb(experts, drop)
    assert (result.kept.sum(1) == experts - drop).all()


def test_equal_losses() -> None:
    """As in a dry run: all losses are zero."""
    generator = torch.Generator().manual_seed(0)
    zeros: Any = lambda kept: torch.zeros(len(kept), dtype=torch.float64)  # noqa: E731
    result = search(zeros, experts=8, drop=3, generator=generator, best=3)
    assert result.losses.tolist() == [0.0, 0.0, 0.0]
