"""Masks in 2:4 through the semi-structured kernels of CUDA devices, while speed is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.measure.moe_layers import moe_layers
from harness.model.layers.bank import Bank
from harness.model.layers.experts import Experts

FIRST = 64
"""Rows that are looked at first: dense weights are told from them."""


def two_four(weight: Tensor) -> bool:
    """True if of every four consecutive inputs at least two are zero."""
    rows = weight.detach().flatten(0, -2)
    if rows.shape[-1] % 4 or not rows.numel() or not rows[:FIRST].any():
        return False
    return all(
        bool((part.reshape(len(part), -1, 4) != 0).sum(-1).le(2).all())
        for part in torch.split(rows, FIRST)
    )


class SparseBank(nn.Module):
    """A bank of experts whose matrices are all compressed 2:4; runs one expert after the other.

    Args:
        gate_up: Each expert's, [2 ffn, hidden], semi-structured.
        down: Each expert's, [hidden, ffn], semi-structured.
        act_fn: The gate's activation.
    """

    def __init__(
        self, gate_up: list[Tensor], down: list[Tensor], act_fn: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.act_fn = act_fn
        self._gate_up, self._down = gate_up, down

    @property
    def matrices(self) -> list[Tensor]:
        """All of them."""
        return [*self._gate_up, *self._down]

    def forward(self, x: Tensor, offsets: Tensor) -> Tensor:
        """As of `Bank`. Reads the offsets back: not for CUDA graphs."""
        ends = offsets.tolist()
        out = torch.empty_like(x)
        for expert, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if end > start:
                gate, up = F.linear(x[start:end], self._gate_up[expert]).chunk(2, -1)
                out[start:end] = F.linear(self.act_fn(gate) * up, self._down[expert])
        return out


class SparseExperts(Experts):
    """Experts whose banks take rows sorted by expert, however few tokens there are."""

    def _unsorted(self, hidden: Tensor) -> bool:
        return False


@contextmanager
def semi_structured(lm: PreTrainedModel) -> Iterator[str | None]:
    """Run what is masked in 2:4 in its real form meanwhile.

    Yields:
        What was done with such masks, as a sentence; None where there are none.
    """
    linears = [m for m in lm.modules() if isinstance(m, nn.Linear) and two_four(m.weight)]
    layers = [layer.module for layer in moe_layers(lm) if _banks(layer.experts)]
    if not linears and not layers:
        yield None
        return
    if lm.device.type != "cuda":
        yield "masks in 2:4 run dense: semi-structured kernels are CUDA's."
        return
    done, refused = 0, set()
    with ExitStack() as undo:
        for swap, module in [(_linear, m) for m in linears] + [(_experts, m) for m in layers]:
            try:
                undo.callback(swap(module))
                done += 1
            except (RuntimeError, NotImplementedError) as error:
                refused.add(str(error).strip().splitlines()[0].rstrip("."))
        what = f"{done} of {len(linears) + len(layers)} modules masked in 2:4 ran semi-structured"
        yield f"{what}; the others dense: {'; '.join(sorted(refused))}." if refused else f"{what}."


def _banks(experts: nn.Module) -> bool:
    """True if all dense expert matrices of a layer are 2:4."""
    stacks = [p for p in experts.parameters() if p.dim() == 3]
    dense = not isinstance(experts, Experts) or all(
        isinstance(bank, Bank) and bank.stacks.keys() == {"gate_up_proj", "down_proj"}
        for bank in experts.banks
    )
    return bool(stacks) and dense and all(two_four(stack) for stack in stacks)


def _compressed(weight: Tensor) -> Tensor:
    from torch.sparse import to_sparse_semi_structured

    compressed: Tensor = to_sparse_semi_structured(weight.detach().contiguous())
    return compressed


def _linear(linear: Any) -> Callable[[], None]:
    """Swap the weight; the result puts it back."""
    dense = linear.weight
    linear.weight = nn.Parameter(_compressed(dense), requires_grad=False)
    return lambda: setattr(linear, "weight", dense)


def _experts(mlp: Any) -> Callable[[], None]:
    """Swap a layer's experts; the result puts them back."""
    old = mlp.experts
    numbers = old.base_numbers if isinstance(old, Experts) else range(old.num_experts)
    # Not `old` itself: what is swapped is a module of its own that shares every tensor.
    new = _copy(old) if isinstance(old, Experts) else SparseExperts.adopt(old, tuple(numbers))
    new.banks = nn.ModuleList(_sparse(bank) for bank in new.banks)
    mlp.experts = new.to(mlp.gate.weight.device)
    return lambda: setattr(mlp, "experts", old)


def _sparse(bank: Any) -> SparseBank:
    gate_up = [_compressed(weight) for weight in bank.gate_up_proj]
    return SparseBank(gate_up, [_compressed(weight) for weight in bank.down_proj], bank.act_fn)


def _copy(experts: Experts) -> SparseExperts:
    banks = [bank for bank in experts.banks if isinstance(bank, Bank)]
    copied = SparseExperts(
        banks,
        experts.bank_numbers,
        experts.base_numbers,
        experts.rows,
        beta=experts.beta,
        renormalise=experts.renormalise,
    )
    copied.share = experts.share
    return copied
