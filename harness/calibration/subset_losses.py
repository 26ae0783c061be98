"""Exact reconstruction losses of all subsets of experts, from one pass over the tokens.

For a token with router order e_1, e_2, ... only its first k + (experts dropped) experts can ever
be chosen. With r the target (what the routed experts should add up to), a kept set K that chooses
the experts S has

    || r - s sum_{j in S} p_j f_j ||^2 = r.r - 2 s sum_j p_j (f_j.r) + s^2 sum_ij p_i p_j (f_i.f_j)

so that one table per token over the possible S, taken from its Gram matrix, serves every K: the
bits of K in the token's router order say which S it chooses. Only the scale s knows K: 1 / sum_S p
where the family renormalises, 1 / sum_K p (the softmax over the experts kept) where it does not.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.calibration.seen import Seen
from harness.calibration.statistic import Statistic
from harness.calibration.statistics import Outputs
from harness.model.view import Block

_CHUNK_BYTES = 64 * 2**20
"""Working memory; tokens are taken in chunks that fit. Larger ones are slower: the allocator hands
memory of tens of MiB back to the system each time, and gets it back page by page."""


class SubsetLosses(Statistic):
    """Loss of every way to drop `dropped` experts (Lu et al. 2024, as coded).

    `losses[n]` is the sum over calibration batches of the unsquared Frobenius norm of the MoE
    layer's output minus what the layer gives with the n-th subset dropped; `subsets[n]` are the
    base numbers dropped, in lexicographic order. Quadratic forms are in fp64.

    Args:
        dropped: Experts to drop.
        target: Outputs to match; None for the block's own.
    """

    version: ClassVar[int] = 1

    def __init__(self, dropped: int, *, target: Outputs | None = None) -> None:
        self.dropped = dropped
        self.target_key = target.key if target else ""
        self._target = target

    def start(self, block: Block) -> None:
        """Zero losses."""
        subsets = list(itertools.combinations(block.experts, self.dropped))
        self.subsets = torch.tensor(subsets, dtype=torch.int64)  # [subsets, dropped]
        self.losses = torch.zeros(len(subsets), dtype=torch.float64)  # [subsets]
        positions = {expert: place for place, expert in enumerate(block.experts)}
        kept = torch.ones(len(subsets), len(block.experts), dtype=torch.bool)
        for row, subset in enumerate(subsets):
            kept[row, [positions[expert] for expert in subset]] = False
        self._kept = kept  # [subsets, experts]
        self._ranks = min(block.top_k + self.dropped, len(block.experts))

    def update(self, seen: Seen) -> None:
        """Add one batch: the square root of its summed squared errors, for every subset."""
        tokens = len(seen.x)
        choices = len(_choices(self._ranks, seen.block.top_k))
        outputs = self._ranks * (self._ranks + 2 * seen.x.shape[-1])
        step = max(1, _CHUNK_BYTES // (8 * (outputs + 5 * choices + 4 * len(self._kept))))
        total = torch.zeros(len(self._kept), dtype=torch.float64)
        for start in range(0, tokens, step):
            total += self._chunk(seen, slice(start, start + step)).cpu()
        self.losses += total.clamp_min(0).sqrt()

    def _chunk(self, seen: Seen, rows: slice) -> Tensor:
        """Summed squared errors of some tokens, [subsets]."""
        block, top_k = seen.block, seen.block.top_k
        family, config = block.model.family, block.model.config
        logits = seen.logits[rows].double()
        order = logits.argsort(dim=-1, descending=True, stable=True)[:, : self._ranks]
        p = logits.softmax(-1)  # [t, experts]
        ranked = p.gather(1, order)  # [t, ranks]
        outputs = self._outputs(seen, rows, order)  # [t, ranks, hidden]
        choices = _choices(self._ranks, top_k).to(order.device)  # [choices, k]
        target = self._target_of(seen, rows, outputs)  # [t, hidden]
        weighted = outputs * ranked.unsqueeze(-1)
        gram = weighted @ weighted.mT  # [t, ranks, ranks]
        along = (weighted @ target.unsqueeze(-1)).squeeze(-1)  # [t, ranks]
        linear = along[:, choices].sum(-1)  # [t, choices]
        square = sum(
            gram[:, choices[:, i], choices[:, j]] for i in range(top_k) for j in range(top_k)
        )
        square = torch.as_tensor(square)  # [t, choices]
        constant = target.square().sum(-1, keepdim=True)
        kept = self._kept.to(order.device)
        pick = _first_of(kept, order, top_k)  # [t, subsets]
        scale = family.routing_scale(config)
        if family.renormalises(config):
            factor = scale / ranked[:, choices].sum(-1)
            errors = constant - 2 * factor * linear + factor.square() * square
            return errors.gather(1, pick).sum(0)
        factor = scale / (p @ kept.double().T)  # [t, subsets]
        error = factor * square.gather(1, pick) - 2 * linear.gather(1, pick)
        return constant.sum() + (factor * error).sum(0)

    def _outputs(self, seen: Seen, rows: slice, order: Tensor) -> Tensor:
        """f_e(x) of every token's first experts in router order, fp64 [t, ranks, hidden]."""
        x = seen.x[rows]
        outputs = x.new_zeros(*order.shape, x.shape[-1], dtype=torch.float64)
        for place, expert in enumerate(seen.block.experts):
            token, rank = torch.where(order == place)
            if len(token):
                outputs[token, rank] = seen.expert(expert, x[token]).double()
        return outputs

    def _target_of(self, seen: Seen, rows: slice, outputs: Tensor) -> Tensor:
        """What the routed experts should add up to, fp64 [t, hidden].

        Their own sum is rebuilt in fp64 from the same outputs, so that a subset that changes
        nothing has a loss of exactly rounding error; another target adds its difference.
        """
        weights = seen.weights[rows].double()
        places = seen.places[rows]  # [t, k], in the order of block.experts
        order = seen.logits[rows].double().argsort(dim=-1, descending=True, stable=True)
        rank = order.argsort(-1).gather(1, places)  # [t, k]
        chosen = outputs.gather(1, rank.unsqueeze(-1).expand(-1, -1, outputs.shape[-1]))
        own = (weights.unsqueeze(-1) * chosen).sum(1)
        if self._target is None:
            return own
        wanted = self._target.batches[seen.batch][rows].double()
        return own + wanted - seen.y[rows].double()

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


def _choices(ranks: int, top_k: int) -> Tensor:
    """The sets of ranks a token can choose, int64 [choices, k]."""
    return torch.tensor(list(itertools.combinations(range(ranks), top_k)))


def _first_of(kept: Tensor, order: Tensor, top_k: int) -> Tensor:
    """Which choice every subset makes for every token, int64 [t, subsets].

    One matrix product gives, per token and subset, the bit mask of the ranks kept; a table over
    all masks gives the choice: the first k bits set.
    """
    ranks = order.shape[1]  # at most 24, or fp32 would not hold every mask exactly
    bits = 2.0 ** torch.arange(ranks, dtype=torch.float32, device=order.device)
    place = torch.zeros(len(order), kept.shape[1], dtype=torch.float32, device=order.device)
    place.scatter_(1, order, bits.expand(len(order), -1))  # [t, experts]: 2^rank
    masks = (place @ kept.float().T).int()  # [t, subsets]
    return _choice_of_mask(ranks, top_k).to(order.device)[masks]


def _choice_of_mask(ranks: int, top_k: int) -> Tensor:
    """Choice for each bit mask of kept ranks, int64 [2^ranks]; 0 for masks with under k bits."""
    masks = torch.arange(2**ranks)
    bits = (masks[:, None] >> torch.arange(ranks)) & 1  # [masks, ranks]
    first = bits * (bits.cumsum(1) <= top_k)
    codes = (first << torch.arange(ranks)).sum(1)  # [masks]
    choices = _choices(ranks, top_k)
    table = torch.zeros(2**ranks, dtype=torch.int64)
    table[(1 << choices).sum(1)] = torch.arange(len(choices))
    return table[codes]
