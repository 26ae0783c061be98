"""Gram matrices of expert outputs, which give a token's loss under any subset of experts.

For a token with router order e_1, e_2, ... only its first k + (experts dropped) experts can ever
be chosen; any of them where the router is group-limited. With r what the routed experts should add
up to, a kept set K that chooses the experts S has

    || r - s sum_{j in S} p_j f_j ||^2 = r.r - 2 s sum_j p_j (f_j.r) + s^2 sum_ij p_i p_j (f_i.f_j)

Only the scale s knows more of K than S: 1 / sum_S p where the family renormalises, 1 / sum_K p
(the softmax over the experts kept) where it does not. All of it is in fp64: the three terms cancel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.calibration.observe import Seen
from harness.errors import Refused
from harness.model.layers.router import Grouping
from harness.model.view import Block

_OUTPUT_BYTES = 64 * 2**20
"""Expert outputs held at once. Many tokens per matrix product keep the products fast."""
_DOUBLE_BYTES = 4 * 2**20
"""Bytes of Gram matrices that are held in fp64 at once: as many as fit a cache."""


@dataclass(frozen=True)
class Grams:
    """Some tokens of one batch.

    Attributes:
        order: int64 [t, ranks]: experts in router order, counted among those left.
        probs: fp64 [t, experts]: softmax over the experts left.
        ranked: fp64 [t, ranks]: `probs` in router order.
        gram: fp64 [t, ranks, ranks]: p_i p_j f_i.f_j.
        along: fp64 [t, ranks]: p_j f_j.r.
        constant: fp64 [t]: r.r.
        top_k: Experts a token chooses.
        scale: The family's factor on routing weights.
        renormalised: Whether the chosen weights are divided by their sum.
        grouping: The groups that limit the choice; None where there are none.
    """

    order: Tensor
    probs: Tensor
    ranked: Tensor
    gram: Tensor
    along: Tensor
    constant: Tensor
    top_k: int
    scale: float
    renormalised: bool
    grouping: Grouping | None = None

    def __len__(self) -> int:
        return len(self.order)

    def split(self, tokens: int) -> Iterator[Grams]:
        """The same in pieces of that many tokens."""
        for start in range(0, len(self), tokens):
            rows = slice(start, start + tokens)
            yield replace(
                self,
                order=self.order[rows],
                probs=self.probs[rows],
                ranked=self.ranked[rows],
                gram=self.gram[rows],
                along=self.along[rows],
                constant=self.constant[rows],
            )


def ranks_of(block: Block, dropped: int) -> int:
    """Experts in router order that a token can fall back on when `dropped` experts go.

    Groups that limit the choice may lead to any of them.
    """
    if block.grouping is not None:
        return len(block.experts)
    return min(block.top_k + dropped, len(block.experts))


def refuse_unless_plain(block: Block) -> None:
    """Subset losses know one routing: the k largest of one logit per expert, maybe within groups.

    Raises:
        Refused: the block routes in another way.
    """
    if not block.plain_routing:
        raise Refused(
            f"block {block.index} has merged, masked or skipped experts, which the losses of "
            "subsets do not know; prune before merging, masking or skipping."
        )


def grams(seen: Seen, ranks: int, *, rows: Tensor, target: Tensor | None = None) -> Iterator[Grams]:
    """The Gram matrices of some tokens, as many at a time as fit.

    Args:
        seen: A batch.
        ranks: Experts per token, in router order.
        rows: int64 [t]: the tokens.
        target: [tokens, hidden]: the layer's output to match, of all the batch's tokens; None for
            its own.
    """
    x = seen.x
    step = max(1, _OUTPUT_BYTES // (ranks * x.shape[-1] * x.element_size()))
    for start in range(0, len(rows), step):
        yield _grams(seen, ranks, rows[start : start + step], target)


def _grams(seen: Seen, ranks: int, rows: Tensor, target: Tensor | None) -> Grams:
    block = seen.block
    family, config = block.model.family, block.model.config
    order, probs, coefficients = _route(seen, rows, ranks)
    outputs = _outputs(seen, rows, order)  # [t, ranks, hidden]
    if target is not None:
        beyond = target[rows].double() - seen.y[rows].double()
        coefficients = torch.cat([coefficients, torch.ones_like(coefficients[:, :1])], 1)
    else:
        beyond = None
    gram = _products(outputs, beyond)  # [t, ranks (+ 1), ranks (+ 1)]
    along = (gram @ coefficients.unsqueeze(-1)).squeeze(-1)
    constant = (along * coefficients).sum(1)
    ranked = probs.gather(1, order)
    return Grams(
        order=order,
        probs=probs,
        ranked=ranked,
        gram=gram[:, :ranks, :ranks] * ranked.unsqueeze(1) * ranked.unsqueeze(2),
        along=along[:, :ranks] * ranked,
        constant=constant,
        top_k=block.top_k,
        scale=family.routing_scale(config),
        renormalised=family.renormalises(config),
        grouping=block.grouping,
    )


def _route(seen: Seen, rows: Tensor, ranks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Router order [t, ranks], probabilities [t, experts], coefficients in order [t, ranks]."""
    places = seen.places[rows]  # [t, k]
    logits = seen.logits[rows].double()  # [t, experts]
    probs = logits.softmax(-1)
    # Equal logits: the model's choice goes first, or keeping every expert would change it.
    chosen = logits.gather(1, places)
    logits.scatter_(1, places, torch.nextafter(chosen, chosen.new_tensor(torch.inf)))
    order = logits.argsort(dim=-1, descending=True, stable=True)[:, :ranks]
    weights = torch.zeros_like(logits).scatter_(1, places, seen.weights[rows].double())
    return order, probs, weights.gather(1, order)


def _outputs(seen: Seen, rows: Tensor, order: Tensor) -> Tensor:
    """f_e(x) of every token's first experts in router order, [t, ranks, hidden]."""
    x = seen.x[rows]
    ranks = order.shape[1]
    outputs = x.new_empty(len(rows) * ranks, x.shape[-1])
    for place, expert in enumerate(seen.block.experts):
        slots = torch.where(order.flatten() == place)[0]
        if len(slots):
            outputs.index_copy_(0, slots, seen.expert(expert, x[slots // ranks]))
    return outputs.view(len(rows), ranks, -1)


def _products(outputs: Tensor, beyond: Tensor | None) -> Tensor:
    """Inner products of the outputs, and of what is `beyond` them as the last row."""
    rows = outputs.shape[1] + (beyond is not None)
    gram = torch.empty(len(outputs), rows, rows, dtype=torch.float64, device=outputs.device)
    step = max(1, _DOUBLE_BYTES // (8 * rows * outputs.shape[-1]))
    for start in range(0, len(outputs), step):
        some = slice(start, start + step)
        vectors = outputs[some].double()
        if beyond is not None:
            vectors = torch.cat([vectors, beyond[some].unsqueeze(1)], 1)
        torch.bmm(vectors, vectors.mT, out=gram[some])
    return gram
