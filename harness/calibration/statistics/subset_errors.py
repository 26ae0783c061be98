"""Exact reconstruction losses of any subsets of experts, prepared by one pass over the tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from harness.calibration.observe import Seen
from harness.calibration.statistic import Statistic
from harness.calibration.statistics.grams import Grams, grams, ranks_of, refuse_unless_plain
from harness.calibration.statistics.squares import Squares, squares
from harness.model.view import Block


class SubsetErrors(Statistic):
    """EEP's loss (Lu et al. 2024) of whichever subsets of experts are asked for.

    The pass keeps ranks^2 fp64 numbers per token, ranks = top-k + `dropped`; `losses` then needs
    neither the tokens nor the experts. Where the sets of ranks a token can choose are few enough, a
    table over them is made when first asked, and a subset costs a look-up per token; otherwise the
    quadratic form of every token and subset is computed directly. Both are exact.

    Args:
        dropped: The most experts that a subset asked for drops.
        tokens: The most tokens taken per calibration batch, evenly spaced; None for all. The loss
            of fewer tokens is scaled by sqrt(tokens of the batch / tokens taken).
        table_bytes: Memory for the tables of one block.
    """

    cached: ClassVar[bool] = False

    def __init__(
        self, dropped: int, *, tokens: int | None = None, table_bytes: int = 2**30
    ) -> None:
        self.dropped = dropped
        self.tokens = tokens
        self.table_bytes = table_bytes

    def start(self, block: Block) -> None:
        """No token yet.

        Raises:
            Refused: the block's routing is not the plain top-k.
        """
        refuse_unless_plain(block)
        self._experts = len(block.experts)
        self._ranks = ranks_of(block, self.dropped)
        self._least = min(block.top_k, max(0, self._experts - self.dropped))
        self._batches: list[list[Grams]] = []
        self._weights: list[float] = []
        self._squares: list[list[Squares]] | None = None

    def update(self, seen: Seen) -> None:
        """Keep the Gram matrices of one batch."""
        total = len(seen.x)
        taken = min(total, self.tokens or total)
        if not taken:
            return
        rows = torch.arange(taken, device=seen.x.device) * total // taken
        self._batches.append(list(grams(seen, self._ranks, rows=rows)))
        self._weights.append(total / taken)

    def taken(self) -> Iterator[tuple[str, Tensor]]:
        """The inner products of the experts' outputs, of which all losses are made."""
        for batch in self._batches:
            for part in batch:
                yield "products", part.gram
                yield "squares", part.constant

    def losses(self, kept: Tensor) -> Tensor:
        """Sum over batches of || F(X) - F(X, kept) ||_F, fp64 [candidates] on the CPU.

        Args:
            kept: bool [candidates, experts left], in the order of `block.experts`; at least
                experts - `dropped` kept in each.

        Raises:
            ValueError: another number of experts, or more dropped than prepared for.
        """
        if kept.dim() != 2 or kept.shape[1] != self._experts:
            raise ValueError(f"expected [candidates, {self._experts}], got {tuple(kept.shape)}")
        if len(kept) and int((~kept).sum(1).max()) > self.dropped:
            raise ValueError(f"prepared for {self.dropped} experts dropped at most")
        losses = torch.zeros(len(kept), dtype=torch.float64)
        for weight, batch in zip(self._weights, self._prepared(), strict=True):
            squared = sum((part.sums(kept).cpu() for part in batch), torch.zeros(len(kept)))
            losses += (weight * squared.double().clamp_min(0)).sqrt()
        return losses

    def _prepared(self) -> list[list[Squares]]:
        """The squared errors, made when first asked for."""
        if self._squares is None:
            tokens = sum(len(part) for batch in self._batches for part in batch)
            budget = self.table_bytes / tokens if tokens else 0.0
            self._squares = [
                [one for part in batch for one in squares(part, self._least, budget)]
                for batch in self._batches
            ]
        return self._squares
