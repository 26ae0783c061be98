"""Experts of equal shapes, stacked; a matrix is dense or two factors, each full or packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from harness.model.layers.grouped import grouped_linear
from harness.model.layers.packed import Packed
from harness.model.quantized import scheme
from harness.model.quantized.kernels.tiles import Tiles
from harness.model.quantized.scheme import Quantized

ExpertMatrix = Tensor | Quantized
ExpertMatrices = dict[str, ExpertMatrix]
"""One expert: "gate", "up", "down" [outputs, inputs], or the factors "gate.u" [outputs, rank] and
"gate.v" [rank, inputs] in place of one."""
ROLES = ("gate", "up", "down")
FACTORS = ("u", "v")


class Bank(nn.Module):
    """Experts of equal shapes, each matrix stacked: [experts, outputs, inputs].

    Gate and up lie in one tensor, gate rows first, as transformers has them, unless they are
    factors or packed in different schemes.
    """

    def __init__(
        self, stacks: Mapping[str, ExpertMatrix], act_fn: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.act_fn = act_fn
        self.size = 0
        for name, stack in stacks.items():
            if isinstance(stack, Quantized):
                self.size = len(stack.codes)
                self.add_module(_attribute(name), Packed(stack))
            else:
                self.size = len(stack)
                self.register_parameter(_attribute(name), nn.Parameter(stack, requires_grad=False))

    @classmethod
    def of(cls, experts: Sequence[ExpertMatrices], act_fn: Callable[[Tensor], Tensor]) -> Bank:
        """Stack experts of equal shapes."""
        stacks = {name: _stack([one[name] for one in experts]) for name in experts[0]}
        fused = _fused(stacks.get("gate"), stacks.get("up"))
        if fused is not None:
            del stacks["gate"], stacks["up"]
            stacks = {"gate_up": fused, **stacks}
        return cls(stacks, act_fn)

    @property
    def stacks(self) -> dict[str, Tensor | Packed]:
        """The stacked matrices, by attribute."""
        held = {**self._parameters, **self._modules}
        return {n: stack for n, stack in held.items() if isinstance(stack, Tensor | Packed)}

    @property
    def packed(self) -> bool:
        """True if any matrix is packed."""
        return any(isinstance(stack, Packed) for stack in self.stacks.values())

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(outputs, inputs) of each stacked matrix."""
        return [
            (stack.outputs, stack.inputs)
            if isinstance(stack, Packed)
            else (stack.shape[1], stack.shape[2])
            for stack in self.stacks.values()
        ]

    def place(self, name: str) -> tuple[str, tuple[slice, ...]] | None:
        """The parameter that holds a matrix or factor, and the part of each slice it is."""
        if hasattr(self, _attribute(name)):
            return _attribute(name), ()
        fused = getattr(self, "gate_up_proj", None)
        if fused is None or name not in ("gate", "up"):
            return None
        ffn = (fused.outputs if isinstance(fused, Packed) else fused.shape[1]) // 2
        return "gate_up_proj", (slice(0, ffn) if name == "gate" else slice(ffn, 2 * ffn),)

    def parts(self, position: int) -> ExpertMatrices:
        """The matrices of one expert, views; of packed ones that have settled, copies."""
        parts: ExpertMatrices = {}
        for name in (*ROLES, *(f"{role}.{factor}" for role in ROLES for factor in FACTORS)):
            place = self.place(name)
            if place is None:
                continue
            stack = getattr(self, place[0])
            whole = stack.quantized() if isinstance(stack, Packed) else stack.detach()
            parts[name] = whole[(position, *place[1])]
        return parts

    def forward(self, x: Tensor, offsets: Tensor | Tiles) -> Tensor:
        """f_e(x_r) for every row, [rows, hidden].

        Args:
            x: [rows, hidden].
            offsets: Where the experts' rows, sorted, end, int32 [experts]. Or, for rows in any
                order where the kernels run, the rows in tiles; what leads nowhere is zero.
        """
        if hasattr(self, "gate_up_proj"):
            gate, up = self._product("gate_up_proj", x, offsets).chunk(2, dim=-1)
        else:
            gate, up = self._linear("gate", x, offsets), self._linear("up", x, offsets)
        gated = self.act_fn(gate)
        # In place where nobody asks for gradients: of a long prefill this is the largest tensor.
        gated = gated * up if torch.is_grad_enabled() else gated.mul_(up)
        return self._linear("down", gated, offsets)

    def _linear(self, role: str, x: Tensor, offsets: Tensor | Tiles) -> Tensor:
        if hasattr(self, f"{role}_proj"):
            return self._product(f"{role}_proj", x, offsets)
        return self._product(f"{role}_u", self._product(f"{role}_v", x, offsets), offsets)

    def _product(self, attribute: str, x: Tensor, offsets: Tensor | Tiles) -> Tensor:
        stack = getattr(self, attribute)
        if isinstance(offsets, Tiles):
            from harness.model.quantized.kernels.launch import grouped_rows

            weight = stack.quantized() if isinstance(stack, Packed) else stack
            return grouped_rows(x, offsets, weight)
        if isinstance(stack, Packed):
            return stack.grouped(x, offsets)
        return grouped_linear(x, stack, offsets)


def _stack(parts: Sequence[ExpertMatrix]) -> ExpertMatrix:
    """Matrices of one key, stacked."""
    quantized = [part for part in parts if isinstance(part, Quantized)]
    if quantized:
        return scheme.stack(quantized)
    return torch.stack([part for part in parts if isinstance(part, Tensor)])


def _fused(gate: ExpertMatrix | None, up: ExpertMatrix | None) -> ExpertMatrix | None:
    """Stacks of gate and up as one; None where they cannot be."""
    if isinstance(gate, Tensor) and isinstance(up, Tensor):
        return torch.cat([gate, up], dim=1)
    if isinstance(gate, Quantized) and isinstance(up, Quantized) and gate.key == up.key:
        return scheme.concatenate([gate, up])
    return None


def stacked_key(part: ExpertMatrix) -> tuple[object, ...]:
    """A key that parts must share to be stacked."""
    return part.key if isinstance(part, Quantized) else tuple(part.shape)


def _attribute(name: str) -> str:
    """Parameter name of a matrix ("gate_up") or a factor ("gate.u")."""
    return name.replace(".", "_") if "." in name else f"{name}_proj"
