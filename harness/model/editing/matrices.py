"""Names of a block's weights, apart from how transformers lays them out.

A *slot* says where a named weight lives: a module, one of its parameters, and, for what
transformers fuses, which part of that parameter. Names: `experts.5.gate`, `experts.5.up`,
`experts.5.down`, `shared.gate`, `dense.up`, `router`, `router.shared`, `attention.q`,
`attention_norm`, `mlp_norm`. What is low-rank has two matrices in place of one: `experts.5.gate.v`
reads what the matrix read, `experts.5.gate.u` reads `experts.5.gate.v`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from harness.model.families.family import Family, Layer
from harness.model.layers.experts import Experts
from harness.model.layers.factors import Factors
from harness.model.layers.packed import Packed, PackedLinear
from harness.model.quantized.scheme import Quantized

Part = Literal["experts", "shared", "dense", "router", "attention"]
PARTS: tuple[Part, ...] = ("experts", "shared", "dense", "router", "attention")
ROLES = ("gate", "up", "down")
NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}


@dataclass(frozen=True)
class Matrix:
    """One 2-D weight of a block."""

    name: str
    part: Part
    reads: str
    """The source of its inputs: a norm ("mlp_norm") or another matrix ("experts.5.up")."""
    shape: tuple[int, int]
    """(outputs, inputs)"""
    expert: int | None = None
    """The expert's number in the base model."""


@dataclass(frozen=True)
class Slot:
    """The place where a named weight lives."""

    module: nn.Module
    parameter: str
    index: tuple[int | slice, ...] = ()
    """Empty for the whole parameter."""

    def read(self) -> Tensor:
        """The weight, a view on the model's own tensor; of a packed one, a dequantised copy."""
        packed = self.packed
        if packed is not None:
            position, rows = self._place
            return packed.dequantise(position)[rows]
        tensor: Tensor = getattr(self.module, self.parameter).detach()
        return tensor[self.index] if self.index else tensor

    @property
    def packed(self) -> Packed | None:
        """The module that holds the weight, if it is packed."""
        held = getattr(self.module, self.parameter)
        return held if isinstance(held, Packed) else None

    def quantized(self) -> Quantized | None:
        """The weight as it is packed; None if it is not."""
        packed = self.packed
        if packed is None:
            return None
        position, rows = self._place
        return packed.quantized(position)[rows]

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs), without reading."""
        packed = self.packed
        if packed is None:
            outputs, inputs = self.read().shape
            return outputs, inputs
        return len(range(packed.outputs)[self._place[1]]), packed.inputs

    @property
    def _place(self) -> tuple[int, slice]:
        """Position and rows in a packed stack."""
        position, *rows = self.index or (0,)
        whole = rows[0] if rows and isinstance(rows[0], slice) else slice(None)
        return (position if isinstance(position, int) else 0), whole


def expert_numbers(mlp: Layer) -> tuple[int, ...]:
    """Base numbers of the experts a layer still has; empty where there are none."""
    experts = getattr(mlp, "experts", None)
    if experts is None:
        return ()
    numbers: tuple[int, ...] | None = getattr(experts, "base_numbers", None)
    return tuple(range(int(experts.num_experts))) if numbers is None else numbers


def row_numbers(mlp: Layer) -> tuple[int, ...]:
    """For each row of the router the base number of the expert it leads to, -1 for none."""
    experts = getattr(mlp, "experts", None)
    return experts.rows if isinstance(experts, Experts) else expert_numbers(mlp)


def find(layer: Layer, family: Family, name: str) -> Slot | None:
    """The place of the weight `name` in a decoder layer; None when the layer has no such weight."""
    if name in NORMS:
        norm = getattr(layer, NORMS[name])
        return Slot(norm, "weight") if hasattr(norm, "weight") else None
    part, _, rest = name.partition(".")
    mlp = layer.mlp
    if name == "router":
        gate = getattr(mlp, "gate", None)
        return Slot(gate, "weight") if gate is not None else None
    if name == "router.shared":
        return _linear(mlp, family.shared_gate)
    if part == "experts":
        return _expert(mlp, rest)
    place = linear_place(layer, family, name)
    return _linear(*place, rest.partition(".")[2]) if place else None


def linear_place(layer: Layer, family: Family, name: str) -> tuple[Layer, str] | None:
    """Owner and attribute of the linear layer, whole or in factors, that `name` is of."""
    part, _, rest = name.partition(".")
    role = rest.partition(".")[0]
    mlp = layer.mlp
    if part == "attention" and role in family.attention:
        return layer.self_attn, role if role.endswith("_mqa") else f"{role}_proj"
    if role not in ROLES:
        return None
    if part == "shared" and family.shared and hasattr(mlp, family.shared):
        return getattr(mlp, family.shared), f"{role}_proj"
    if part == "dense" and not hasattr(mlp, "experts"):
        return mlp, f"{role}_proj"
    return None


def matrices(layer: Layer, family: Family) -> Iterator[Matrix]:
    """All 2-D weights of a decoder layer, routed experts first."""
    for expert in expert_numbers(layer.mlp):
        for role in ROLES:
            yield from _matrix(layer, family, f"experts.{expert}.{role}", "experts", expert=expert)
    for part in ("shared", "dense"):
        for role in ROLES:
            yield from _matrix(layer, family, f"{part}.{role}", part)
    for name in ("router", "router.shared"):
        yield from _matrix(layer, family, name, "router")
    for attribute, reads in family.attention.items():
        yield from _matrix(layer, family, f"attention.{attribute}", "attention", reads=reads)


def _matrix(
    layer: Layer,
    family: Family,
    name: str,
    part: Part,
    *,
    expert: int | None = None,
    reads: str = "mlp_norm",
) -> Iterator[Matrix]:
    """The matrix, or its two factors, or nothing."""
    if name.endswith(".down"):
        up = f"{name.removesuffix('.down')}.up"
        reads = up if find(layer, family, up) else f"{up}.u"
    chain = ((name, reads), (f"{name}.v", reads), (f"{name}.u", f"{name}.v"))
    for each, fed in chain:
        slot = find(layer, family, each)
        if slot is not None:
            yield Matrix(each, part, fed, slot.shape, expert)


def _linear(owner: Layer, attribute: str | None, factor: str = "") -> Slot | None:
    module = getattr(owner, attribute, None) if attribute else None
    if isinstance(module, Factors):
        return Slot(getattr(module, factor), "weight") if factor in ("u", "v") else None
    if not isinstance(module, nn.Linear | PackedLinear) or factor:
        return None
    return Slot(module, "weight")


def _expert(mlp: Layer, rest: str) -> Slot | None:
    number, _, name = rest.partition(".")
    numbers = expert_numbers(mlp)
    if not number.isdigit() or int(number) not in numbers:
        return None
    experts = mlp.experts
    if isinstance(experts, Experts):
        place = experts.place(int(number), name)
        return None if place is None else Slot(*place)
    if name not in ROLES:
        return None
    position = numbers.index(int(number))
    if name == "down":
        return Slot(experts, "down_proj", (position,))
    ffn = experts.gate_up_proj.shape[1] // 2
    half = slice(0, ffn) if name == "gate" else slice(ffn, 2 * ffn)
    return Slot(experts, "gate_up_proj", (position, half))
