"""The genetic search of MoE-I2: which experts of a layer to prune, by a given loss.

Genetic search over sets of experts (Yang et al. 2024, arXiv 2411.01016, section 3.1). The
population starts as random sets. In each iteration the sets with the least losses become parents;
a child is drawn from the union of two of them; some children have a few of their experts replaced
at random.

The paper gives population, iterations and operators. How many parents and children there are,
whether the best survive, how often and how much is mutated is ours: `parents`, `survivors` (the
others are children), `mutation` and `replaced` of `search`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Fitness = Callable[[Tensor], Tensor]
"""Losses, fp64 [candidates], of the experts kept, bool [candidates, experts]; less is better."""


@dataclass(frozen=True)
class SearchResult:
    """Best sets of experts of a search, and how it went.

    Attributes:
        kept: bool [sets, experts]: the best distinct sets of experts to keep, best first.
        losses: fp64 [sets]: their losses.
        best: Least loss of each generation, the random first one included.
        mean: Mean loss of each generation.
        evaluated: Number of distinct sets whose loss was asked for.
    """

    kept: Tensor
    losses: Tensor
    best: tuple[float, ...]
    mean: tuple[float, ...]
    evaluated: int


def search(
    fitness: Fitness,
    *,
    experts: int,
    drop: int,
    generator: torch.Generator,
    population: int = 100,
    iterations: int = 50,
    parents: float = 0.3,
    survivors: float = 0.1,
    mutation: float = 0.5,
    replaced: int = 2,
    best: int = 1,
    groups: Sequence[Sequence[int]] = (),
) -> SearchResult:
    """Search for the sets of experts that are dropped with the least loss.

    Every distinct set is evaluated once, a generation's new ones in one call.

    Args:
        fitness: Gives the losses of candidates.
        experts: Number of experts.
        drop: Number of experts that go.
        generator: Generator of all draws, on the CPU.
        population: Sets in a generation (paper: 100).
        iterations: Generations after the first (paper: 50).
        parents: Fraction of a generation, those with the least losses, that children come from.
        survivors: Fraction of a generation, those with the least losses, that stay as they are.
        mutation: Probability that a child is mutated, shared by the groups.
        replaced: Largest number of experts that a mutation replaces; it is drawn from 1 on.
        best: Number of sets to return; fewer where fewer were evaluated.
        groups: Places of the experts by group, all of one size, of each of which equally many go;
            one of all by default.
    """
    order = torch.tensor([list(group) for group in groups or [range(experts)]])  # [groups, size]
    each = drop // len(order)
    known: dict[tuple[int, ...], float] = {}
    least, mean = [], []
    breeders = max(1, round(parents * population))
    stay = min(round(survivors * population), population - 1)
    # Sets are bool [sets, groups, size] until a loss is asked for: every group is drawn for itself.
    sets = _draw(torch.ones(population, *order.shape, dtype=torch.bool), each, generator)
    for iteration in range(iterations + 1):
        if iteration:
            children = _children(sets[:breeders], population - stay, each, generator)
            few = _few((len(children), len(order), 1), mutation / len(order), replaced, generator)
            sets = torch.cat([sets[:stay], _mutated(children, few, generator)])
        losses = _evaluate(_flat(sets, order), drop, fitness, known)
        sets = sets[losses.argsort(stable=True)]
        least.append(float(losses.min()))
        mean.append(float(losses.mean()))
    ranked = sorted(known, key=lambda dropped: (known[dropped], dropped))[:best]
    kept = torch.ones(len(ranked), experts, dtype=torch.bool)
    for row, dropped in enumerate(ranked):
        kept[row, list(dropped)] = False
    losses = torch.tensor([known[dropped] for dropped in ranked], dtype=torch.float64)
    return SearchResult(kept, losses, tuple(least), tuple(mean), len(known))


def _draw(pool: Tensor, sizes: Tensor | int, generator: torch.Generator) -> Tensor:
    """A random set out of each pool, bool [rows, groups, size]; `sizes` as few, or one for all."""
    keys = torch.rand(pool.shape, generator=generator).masked_fill(~pool, math.inf)
    return keys.argsort(dim=-1, stable=True).argsort(dim=-1) < sizes


def _flat(sets: Tensor, order: Tensor) -> Tensor:
    """Sets by expert, bool [sets, experts]."""
    flat = torch.zeros(len(sets), order.numel(), dtype=torch.bool)
    flat[:, order.flatten()] = sets.flatten(1)
    return flat


def _children(parents: Tensor, count: int, drop: int, generator: torch.Generator) -> Tensor:
    """Sets out of the unions of two parents each, bool [count, groups, size]."""
    couples = torch.rand(count, len(parents), generator=generator).argsort(dim=1)[:, :2]
    return _draw(parents[couples].any(1), drop, generator)


def _few(
    shape: tuple[int, ...], mutation: float, replaced: int, generator: torch.Generator
) -> Tensor:
    """Number of experts of each child that are replaced in each group, int64 [count, groups, 1]."""
    few = torch.randint(1, replaced + 1, shape, generator=generator)
    return few * (torch.rand(shape, generator=generator) < mutation)


def _mutated(sets: Tensor, few: Tensor, generator: torch.Generator) -> Tensor:
    """The sets with `few` of their experts replaced by others, where there are as many."""
    few = torch.minimum(few, torch.minimum(sets.sum(-1, True), (~sets).sum(-1, True)))
    leave, enter = _draw(sets, few, generator), _draw(~sets, few, generator)
    return (sets & ~leave) | enter


def _evaluate(
    sets: Tensor, drop: int, fitness: Fitness, known: dict[tuple[int, ...], float]
) -> Tensor:
    """Losses, fp64 [sets]; those not yet known are asked for together."""
    places = sets.nonzero()[:, 1].view(len(sets), drop)
    names = [tuple(row) for row in places.tolist()]
    new = {name: row for row, name in enumerate(names) if name not in known}
    if new:
        losses = fitness(~sets[list(new.values())])
        known.update(zip(new, losses.tolist(), strict=True))
    return torch.tensor([known[name] for name in names], dtype=torch.float64)
