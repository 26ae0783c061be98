"""Many sequences in one row, each shared prefix once.

Multiple-choice requests repeat their context for every choice, and tasks repeat a description or
examples for every question. Sorted, a sequence shares its longest prefix with its predecessor; so
a row holds the nodes of a prefix tree in depth-first order, and a mask lets every node see its
ancestors only. A causal model then computes for every node what it computes for the sequence alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PrefixRow:
    """Sequences in one row of n nodes, shared prefixes once."""

    tokens: Tensor
    """int64 [n]."""
    positions: Tensor
    """int64 [n], depth in the tree: the position in the sequence."""
    visible: Tensor | None
    """bool [n, n]: does node i attend to node j? None for one chain, where causality says it."""
    paths: tuple[tuple[int, Tensor], ...]
    """Number of the sequence, and int64 [length] of its nodes in order."""


def prefix_rows(sequences: Sequence[tuple[int, ...]], budget: int) -> Iterator[PrefixRow]:
    """Rows that hold every sequence once.

    Args:
        sequences: Token ids, none empty.
        budget: Nodes per row at most. A longer sequence opens a row of its own, which takes up to
            as many nodes again from sequences that share more with it than they add.
    """
    row = _Builder()
    for number in sorted(range(len(sequences)), key=sequences.__getitem__):
        sequence = sequences[number]
        shared = _shared(row.last, sequence)
        if not row.fits(shared, len(sequence) - shared, budget):
            yield row.done()
            row, shared = _Builder(), 0
        row.add(number, sequence, shared)
    if row.paths:
        yield row.done()


class _Builder:
    """A row that grows; knows the path of the sequence added last."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.last: tuple[int, ...] = ()
        self.nodes: list[int] = []
        self.longest = 0
        self.paths: list[tuple[int, list[int], int]] = []

    def fits(self, shared: int, new: int, budget: int) -> bool:
        size = len(self.tokens) + new
        return not self.paths or size <= budget or (shared >= new and size <= 2 * self.longest)

    def add(self, number: int, sequence: tuple[int, ...], shared: int) -> None:
        first = len(self.tokens)
        self.tokens += sequence[shared:]
        self.nodes = self.nodes[:shared] + list(range(first, len(self.tokens)))
        self.last = sequence
        self.longest = max(self.longest, len(sequence))
        self.paths.append((number, self.nodes, shared))

    def done(self) -> PrefixRow:
        size = len(self.tokens)
        visible = torch.zeros(size, size, dtype=torch.bool) if self.longest < size else None
        positions = torch.empty(size, dtype=torch.long)
        paths = []
        for number, nodes, shared in self.paths:
            path, length = torch.tensor(nodes), len(nodes)
            new = path[shared:]
            positions[new] = torch.arange(shared, length)
            if visible is not None:
                seen = torch.ones(length - shared, length).tril(shared).bool()
                visible[new[:, None], path] = seen
            paths.append((number, path))
        return PrefixRow(torch.tensor(self.tokens), positions, visible, tuple(paths))


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Length of the longest common prefix."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
