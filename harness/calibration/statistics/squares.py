"""Summed squared errors of subsets of experts, from the Gram matrices of some tokens."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from harness.calibration.statistics import choices
from harness.calibration.statistics.grams import Grams

_ELEMENTS = 2**18
"""fp64 numbers worked on at a time: what fits a cache."""
_TOKENS = 256
"""Tokens of a piece."""


class Squares(ABC):
    """Squared errors of some tokens under any subsets.

    Args:
        grams: The tokens.
    """

    def __init__(self, grams: Grams) -> None:
        self.grams = grams

    def sums(self, kept: Tensor) -> Tensor:
        """Squared errors summed over the tokens, fp64 [subsets].

        Args:
            kept: bool [subsets, experts left].
        """
        kept = kept.to(self.grams.order.device)
        width = max(1, _ELEMENTS // max(1, len(self.grams) * self.depth))
        return torch.cat([self._sums(some) for some in torch.split(kept, width)])

    @property
    @abstractmethod
    def depth(self) -> int:
        """fp64 numbers needed at once per token and subset."""

    @abstractmethod
    def _sums(self, kept: Tensor) -> Tensor: ...

    def _factor(self, mass: Tensor) -> Tensor:
        """The factor of p_j; where nothing is kept the sums it multiplies are 0."""
        return self.grams.scale / mass.clamp_min(1e-100)

    def _mass(self, kept: Tensor) -> Tensor:
        """Probability of the experts kept, fp64 [t, subsets]."""
        return self.grams.probs @ kept.double().T


def squares(grams: Grams, least: int, budget: float = math.inf) -> Iterator[Squares]:
    """The squared errors of these tokens, in pieces that fit a cache.

    Args:
        grams: The tokens.
        least: The fewest experts a subset leaves a token to choose, at most its top-k.
        budget: Bytes per token for a table over the sets of ranks; without it, directly.
    """
    if grams.grouping is not None:
        yield from map(GroupedSquares, grams.split(_TOKENS))
        return
    tabled = TabledSquares.bytes(grams, least) <= budget
    for piece in grams.split(_TOKENS):
        yield TabledSquares(piece, least) if tabled else DirectSquares(piece)


class DirectSquares(Squares):
    """The chosen ranks are found per token and subset, and the form is taken of them."""

    @property
    def depth(self) -> int:
        """Every rank is looked at."""
        return self.grams.order.shape[1]

    def _sums(self, kept: Tensor) -> Tensor:
        grams = self.grams
        among = self._eligible(kept.T[grams.order])  # [t, ranks, subsets]
        chosen = (among & (among.cumsum(1, dtype=torch.int16) <= grams.top_k)).double()
        square = ((grams.gram @ chosen) * chosen).sum(1)  # [t, subsets]
        linear = (grams.along.unsqueeze(1) @ chosen).squeeze(1)
        if grams.renormalised:
            mass = (grams.ranked.unsqueeze(1) @ chosen).squeeze(1)
        else:
            mass = self._mass(kept)
        factor = self._factor(mass)
        return grams.constant.sum() + (factor * (factor * square - 2 * linear)).sum(0)

    def _eligible(self, among: Tensor) -> Tensor:
        """The ranks that a token may choose, of those that are kept, bool [t, ranks, subsets]."""
        return among


class GroupedSquares(DirectSquares):
    """As its base, for a router whose groups limit the choice.

    A token's groups are those whose best expert kept comes first in its router order.
    """

    def _eligible(self, among: Tensor) -> Tensor:
        order, grouping = self.grams.order, self.grams.grouping
        if grouping is None:
            return among
        group = torch.tensor(grouping.of_row(order.shape[1]), device=order.device)[order]
        mine = [group == number for number in range(grouping.groups)]  # [t, ranks] each
        first = torch.stack(
            [(among & one[..., None]).int().argmax(1) for one in mine], 1
        )  # [t, groups, subsets]: the rank of each group's best
        empty = torch.stack([~(among & one[..., None]).any(1) for one in mine], 1)
        first = first.masked_fill(empty, order.shape[1])
        place = first.argsort(dim=1, stable=True).argsort(dim=1)  # [t, groups, subsets]
        taken = place < grouping.chosen
        index = group[..., None].expand(among.shape)
        eligible: Tensor = among & taken.gather(1, index)
        return eligible


class TabledSquares(Squares):
    """A table per token over the sets of ranks that it can choose.

    The bits of the experts kept, in the token's router order, say which entry to take.

    Args:
        grams: The tokens; at most `choices.MOST_RANKS` ranks.
        least: The fewest experts a subset leaves a token to choose, at most its top-k.
    """

    depth = 1

    def __init__(self, grams: Grams, least: int) -> None:
        super().__init__(grams)
        self._sizes = (grams.order.shape[1], least, grams.top_k)
        forms = _forms(grams, least)
        if grams.renormalised:
            member = choices.members(*self._sizes).to(grams.ranked)
            factor = self._factor(grams.ranked @ member.T)  # [t, sets]
            linear, square = forms.unbind(-1)
            self._table = factor * (factor * square - 2 * linear)  # fp64 [t, sets]
        else:
            self._table = torch.view_as_complex(forms)  # [t, sets]: one look-up finds both

    @staticmethod
    def bytes(grams: Grams, least: int) -> float:
        """Memory of the table per token; infinite where it cannot be made."""
        ranks = grams.order.shape[1]
        if ranks > choices.MOST_RANKS:
            return math.inf
        return (8 if grams.renormalised else 16) * choices.count(ranks, least, grams.top_k)

    def _sums(self, kept: Tensor) -> Tensor:
        grams, order = self.grams, self.grams.order
        bits = 2.0 ** torch.arange(order.shape[1], dtype=torch.float32, device=order.device)
        place = torch.zeros(len(order), kept.shape[1], device=order.device)
        place.scatter_(1, order, bits.expand(order.shape))  # [t, experts]: 2^rank
        masks = (place @ kept.float().T).int()  # [t, subsets]
        pick = choices.of_masks(*self._sizes).to(order.device)[masks].long()
        sums = self._table.gather(1, pick)  # [t, subsets]
        if grams.renormalised:
            return grams.constant.sum() + sums.sum(0)
        factor = self._factor(self._mass(kept))
        return grams.constant.sum() + (factor * (factor * sums.imag - 2 * sums.real)).sum(0)


def _forms(grams: Grams, least: int) -> Tensor:
    """(linear, square) of every set of ranks, fp64 [t, sets, 2], numbered as in `choices`.

    A set with largest rank b is a smaller one, of ranks below b, and b: its square is the smaller
    one's, plus twice their products with b, plus that of b.
    """
    ranks, most = grams.order.shape[1], grams.top_k
    twice = grams.gram * (2 - torch.eye(ranks).to(grams.gram))
    member = choices.members(ranks, 0, most).to(twice)  # [sets, ranks]
    smaller = twice.new_zeros(len(grams), 1, 2)  # the empty set
    tables = [smaller] if least == 0 else []
    for size in range(1, most + 1):
        before = choices.count(ranks, 0, size - 2)
        forms = twice.new_empty(len(grams), math.comb(ranks, size), 2)
        for top in range(size - 1, ranks):
            sets = math.comb(top, size - 1)
            block = forms[:, math.comb(top, size) :][:, :sets]
            with_top = member[before : before + sets, : top + 1].clone()
            with_top[:, top] = 1
            products = twice[:, top, : top + 1] @ with_top.T  # [t, sets]
            torch.add(smaller[:, :sets, 0], grams.along[:, top : top + 1], out=block[..., 0])
            torch.add(smaller[:, :sets, 1], products, out=block[..., 1])
        smaller = forms
        if size >= least:
            tables.append(forms)
    return torch.cat(tables, 1) if len(tables) > 1 else tables[0]
