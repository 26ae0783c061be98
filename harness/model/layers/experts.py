"""The routed experts of an MoE layer at run time, once edits ask for more than equal dense ones.

Experts of equal shapes lie in a bank. Router rows lead to experts, several to one where experts
were merged, or to none where one was removed and the router preserved. What leads nowhere or is
skipped is not computed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.model.layers.bank import Bank, ExpertMatrices, stacked_key
from harness.model.quantized import kernels
from harness.model.quantized.kernels.tiles import Tiles

NOWHERE = -1
FEW_TOKENS = 64
"""Up to so many at once dense experts run in the grouped kernel, where there is one."""
MOST_TOKENS = 1024
"""So many go through packed experts at once. Between gate, up and down lie, in Mixtral, 14 times as
many numbers as in the states, for each of two choices: a good part of what packing saves."""


class Experts(nn.Module):
    """Routed experts in banks, called like transformers' own.

    Args:
        banks: The experts.
        numbers: Base numbers of each bank's experts, in the banks' order.
        order: The same numbers in the model's order.
        rows: For each router row the base number of the expert it leads to, -1 for none.
        beta: Skip chosen experts whose weight is below `beta` times the token's largest.
        renormalise: Rescale the weights of what is not skipped to their former sum.
    """

    slots: Tensor

    def __init__(
        self,
        banks: Iterable[Bank],
        numbers: Sequence[Sequence[int]],
        order: Sequence[int],
        rows: Sequence[int],
        *,
        beta: float | None = None,
        renormalise: bool = False,
    ) -> None:
        super().__init__()
        held = list(banks)
        self.banks = nn.ModuleList(held)
        self.act_fn = held[0].act_fn
        self.bank_numbers = tuple(tuple(bank) for bank in numbers)
        self.base_numbers = tuple(order)
        self.num_experts = len(self.base_numbers)
        self.rows = tuple(rows)
        self.beta = beta
        self.renormalise = renormalise
        self.share = 1.0
        """The share of choices that is computed; `harness.measure.shares` measures it."""
        flat = [number for bank in self.bank_numbers for number in bank]
        slots = [flat.index(row) if row in flat else len(flat) for row in self.rows]
        self.register_buffer("slots", torch.tensor(slots, device="cpu"), persistent=False)

    @classmethod
    def of(
        cls,
        experts: Mapping[int, ExpertMatrices],
        rows: Sequence[int],
        act_fn: Callable[[Tensor], Tensor],
        *,
        beta: float | None = None,
        renormalise: bool = False,
    ) -> Experts:
        """Stack experts, equal shapes in one bank."""
        shapes: dict[Any, list[int]] = {}
        for number, parts in experts.items():
            key = tuple((name, stacked_key(parts[name])) for name in sorted(parts))
            shapes.setdefault(key, []).append(number)
        numbers = list(shapes.values())
        banks = [Bank.of([experts[number] for number in bank], act_fn) for bank in numbers]
        return cls(banks, numbers, list(experts), rows, beta=beta, renormalise=renormalise)

    @classmethod
    def adopt(cls, stock: Any, numbers: Sequence[int]) -> Experts:
        """Take over transformers' fused experts; shares their tensors."""
        stacks = {"gate_up": stock.gate_up_proj, "down": stock.down_proj}
        return cls([Bank(stacks, stock.act_fn)], [numbers], numbers, numbers)

    @property
    def partial(self) -> bool:
        """True if some choices may not be computed."""
        return self.beta is not None or NOWHERE in self.rows

    def place(self, number: int, name: str) -> tuple[Bank, str, tuple[int | slice, ...]] | None:
        """The place of a matrix or factor of an expert: bank, parameter, index."""
        for bank, numbers in zip(self.banks, self.bank_numbers, strict=True):
            if number in numbers and isinstance(bank, Bank):
                place = bank.place(name)
                position = numbers.index(number)
                return None if place is None else (bank, place[0], (position, *place[1]))
        return None

    def parts(self) -> dict[int, ExpertMatrices]:
        """Every expert's matrices, in the model's order, views."""
        parts = {
            number: bank.parts(position)
            for bank, numbers in zip(self.banks, self.bank_numbers, strict=True)
            if isinstance(bank, Bank)
            for position, number in enumerate(numbers)
        }
        return {number: parts[number] for number in self.base_numbers}

    def choose(self, index: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The choices that are computed, bool [tokens, k], and the weights of all, 0 where not.

        Args:
            index: Router rows chosen, int64 [tokens, k].
            weights: Their coefficients, [tokens, k].
        """
        computed = self.slots[index] < self.num_experts
        if self.beta is not None:
            kept = weights >= self.beta * weights.amax(-1, keepdim=True)
            if self.renormalise:
                total = weights.sum(-1, keepdim=True)
                weights = weights * (total / (weights * kept).sum(-1, keepdim=True))
            computed = computed & kept
        return computed, weights * computed

    def forward(self, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """Sum of the chosen experts' outputs, [tokens, hidden]; arguments as in `choose`."""
        if hidden.is_meta:
            return self._shapes(hidden, weights)
        slots = self.slots[index]
        if self.partial:
            computed, weights = self.choose(index, weights)
            slots = slots.masked_fill(~computed, self.num_experts)
        if self._unsorted(hidden):
            if len(hidden) <= MOST_TOKENS:
                return self._tiled(hidden, slots, weights)
            parts = (torch.split(part, MOST_TOKENS) for part in (hidden, slots, weights))
            return torch.cat([self._tiled(*part) for part in zip(*parts, strict=True)])
        flat = slots.flatten()
        counts = torch.bincount(flat, minlength=self.num_experts + 1)[: self.num_experts]
        ends = counts.cumsum(0).to(torch.int32)
        order = flat.argsort(stable=True)
        if self.partial:
            order = order[: int(ends[-1])]
        y = self._computed(hidden[order // index.shape[-1]], ends)
        y = y * weights.flatten()[order].unsqueeze(-1)
        out = y.new_zeros(len(flat), y.shape[-1]).index_copy(0, order, y)
        total: Tensor = out.view(*index.shape, -1).sum(1)
        return total.to(hidden.dtype)

    def _unsorted(self, hidden: Tensor) -> bool:
        """True if the kernels compute: packed experts always, dense ones for few tokens."""
        if not kernels.runs_on(hidden):
            return False
        return len(hidden) <= FEW_TOKENS or any(bank.packed for bank in self._banks())

    def _tiled(self, hidden: Tensor, slots: Tensor, weights: Tensor) -> Tensor:
        """As `forward`, from the choices' slots [tokens, k]; the host reads nothing back."""
        x = hidden.unsqueeze(1).expand(*slots.shape, -1).flatten(0, 1)  # of one token: a view
        outs, first, flat = [], 0, slots.flatten()
        for bank, numbers in zip(self.banks, self.bank_numbers, strict=True):
            outs.append(bank(x, Tiles.of(flat - first, len(numbers))))  # zero for other banks' rows
            first += len(numbers)
        out = functools.reduce(torch.add, outs).view(*slots.shape, -1)
        total: Tensor = (out * weights.unsqueeze(-1)).sum(1)
        return total.to(hidden.dtype)

    def _computed(self, x: Tensor, ends: Tensor) -> Tensor:
        """Bank by bank, rows sorted by slot; a layer of one bank reads nothing back."""
        if len(self.banks) == 1:
            out: Tensor = self.banks[0](x, ends)
            return out
        parts, first, start = [], 0, 0
        for bank, numbers in zip(self.banks, self.bank_numbers, strict=True):
            mine = ends[first : first + len(numbers)]
            first += len(numbers)
            end = int(mine[-1])
            parts.append(bank(x[start:end], mine - start))
            start = end
        return torch.cat(parts)

    def rows_per_bank(self, choices: int) -> list[int]:
        """Rows per bank when `choices` computed choices fall evenly on the experts."""
        computed = round(choices * self.share)
        ends = [0]
        for numbers in self.bank_numbers:
            ends.append(ends[-1] + len(numbers))
        return [
            computed * end // self.num_experts - computed * start // self.num_experts
            for start, end in itertools.pairwise(ends)
        ]

    def macs(self, choices: int) -> int:
        """Multiply-accumulates of that many choices, every expert equally often."""
        return sum(
            rows * sum(outputs * inputs for outputs, inputs in bank.shapes)
            for rows, bank in zip(self.rows_per_bank(choices), self._banks(), strict=True)
        )

    def _shapes(self, hidden: Tensor, weights: Tensor) -> Tensor:
        """On the meta device, where nobody can sort: the products that `rows_per_bank` says."""
        choices = int(weights.numel())  # a tensor while fvcore traces
        out = torch.empty_like(hidden) + weights.sum()
        for rows, bank in zip(self.rows_per_bank(choices), self._banks(), strict=True):
            for outputs, inputs in bank.shapes:
                product = hidden.new_empty(rows, inputs) @ hidden.new_empty(inputs, outputs)
                out = out + product.sum()  # tracing drops what nothing depends on
        return out

    def _banks(self) -> list[Bank]:
        return [bank for bank in self.banks if isinstance(bank, Bank)]
