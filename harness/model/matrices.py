"""Names of a block's weights, apart from how transformers lays them out.

A *slot* says where a named weight lives: a module, one of its parameters, and, for what
transformers fuses, which part of that parameter. Names: `experts.5.gate`, `experts.5.up`,
`experts.5.down`, `shared.gate`, `dense.up`, `router`, `router.shared`, `attention.q`,
`attention_norm`, `mlp_norm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from harness.model.families import Family, Layer

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
    """What feeds it: a norm ("mlp_norm") or another matrix ("experts.5.up")."""
    shape: tuple[int, int]
    """(outputs, inputs)"""
    expert: int | None = None
    """The expert's number in the base model."""


@dataclass(frozen=True)
class Slot:
    """Where a named weight lives."""

    module: nn.Module
    parameter: str
    index: tuple[int | slice, ...] = ()
    """Empty for the whole parameter."""

    def read(self) -> Tensor:
        """The weight, a view on the model's own tensor."""
        tensor: Tensor = getattr(self.module, self.parameter).detach()
        return tensor[self.index] if self.index else tensor


def expert_numbers(mlp: Layer) -> tuple[int, ...]:
    """Base numbers of the experts a layer still has; empty where there are none."""
    experts = getattr(mlp, "experts", None)
    if experts is None:
        return ()
    numbers: tuple[int, ...] | None = getattr(experts, "base_numbers", None)
    return tuple(range(int(experts.num_experts))) if numbers is None else numbers


def find(layer: Layer, family: Family, name: str) -> Slot | None:
    """Where the weight `name` lives in a decoder layer; None when the layer has no such weight."""
    if name in NORMS:
        norm = getattr(layer, NORMS[name])
        return Slot(norm, "weight") if hasattr(norm, "weight") else None
    part, _, rest = name.partition(".")
    mlp = layer.mlp
    if part == "attention":
        return _linear(layer.self_attn, rest if rest.endswith("_mqa") else f"{rest}_proj")
    if name == "router":
        gate = getattr(mlp, "gate", None)
        return Slot(gate, "weight") if gate is not None else None
    if name == "router.shared":
        return _linear(mlp, family.shared_gate)
    if part == "experts":
        return _expert(mlp, rest)
    if part == "shared" and family.shared and hasattr(mlp, family.shared):
        return _linear(getattr(mlp, family.shared), f"{rest}_proj")
    if part == "dense" and not hasattr(mlp, "experts"):
        return _linear(mlp, f"{rest}_proj")
    return None


def matrices(layer: Layer, family: Family) -> Iterator[Matrix]:
    """All 2-D weights of a decoder layer, routed experts first."""
    mlp = layer.mlp
    for expert in expert_numbers(mlp):
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
    slot = find(layer, family, name)
    if slot is None:
        return
    if name.endswith(".down"):
        reads = f"{name.removesuffix('.down')}.up"
    rows, columns = slot.read().shape
    yield Matrix(name, part, reads, (rows, columns), expert)


def _linear(owner: Layer, attribute: str | None) -> Slot | None:
    module = getattr(owner, attribute, None) if attribute else None
    return Slot(module, "weight") if isinstance(module, nn.Linear) else None


def _expert(mlp: Layer, rest: str) -> Slot | None:
    number, _, role = rest.partition(".")
    numbers = expert_numbers(mlp)
    if not number.isdigit() or int(number) not in numbers or role not in ROLES:
        return None
    position = numbers.index(int(number))
    experts = mlp.experts
    if role == "down":
        return Slot(experts, "down_proj", (position,))
    ffn = experts.gate_up_proj.shape[1] // 2
    half = slice(0, ffn) if role == "gate" else slice(ffn, 2 * ffn)
    return Slot(experts, "gate_up_proj", (position, half))
