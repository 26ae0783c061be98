"""How each edit changes a decoder layer. Every function works on a private shell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from harness.errors import Refused
from harness.model.families import Family, Layer
from harness.model.matrices import Slot, expert_numbers, find
from harness.model.shell import put


class Nothing(nn.Module):
    """A sublayer that adds nothing to the residual stream."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Zeros of the input's shape."""
        return torch.zeros_like(hidden)


def keep_experts(layer: Layer, experts: Sequence[int], *, where: str) -> None:
    """Select experts by base number; router rows, counts and top-k follow.

    Raises:
        Refused: no experts here, experts gone already, or uneven groups of a group-limited router.
    """
    mlp = layer.mlp
    numbers = expert_numbers(mlp)
    if not numbers:
        raise Refused(f"{where} has no experts to keep: it is dense, or its MoE layer is dropped.")
    gone = sorted(set(experts) - set(numbers))
    if gone:
        raise Refused(f"{where} has no expert {gone[0]}; its experts are {list(numbers)}.")
    positions = [numbers.index(expert) for expert in experts]
    gate, fused = mlp.gate, mlp.experts
    _check_groups(gate, positions, where)
    index = torch.tensor(positions, device=gate.weight.device)
    put(gate, "weight", gate.weight.index_select(0, index))
    for name in ("gate_up_proj", "down_proj"):
        put(fused, name, getattr(fused, name).index_select(0, index))
    count = len(positions)
    for part in (mlp, gate, fused):
        if hasattr(part, "num_experts"):
            part.num_experts = count
        if hasattr(part, "top_k"):
            part.top_k = min(int(part.top_k), count)
    fused.base_numbers = tuple(experts)


def _check_groups(gate: Layer, positions: Sequence[int], where: str) -> None:
    groups = getattr(gate, "num_group", None)
    if groups in (None, 1) or getattr(gate, "topk_method", "") == "greedy":
        return
    size = gate.num_experts // groups
    kept = [sum(position // size == group for position in positions) for group in range(groups)]
    if len(set(kept)) > 1:
        raise Refused(
            f"{where} has a group-limited router with {groups} groups and would keep {kept} "
            "experts of them; keep equally many of each group."
        )


def drop_moe(layer: Layer, *, where: str) -> None:
    """Replace the MoE sublayer and its norm.

    Raises:
        Refused: the block has no MoE layer.
    """
    if not expert_numbers(layer.mlp):
        raise Refused(f"{where} has no MoE layer to drop: it is dense, or dropped already.")
    layer.mlp = Nothing()
    layer.post_attention_layernorm = nn.Identity()


def set_weights(
    layer: Layer,
    family: Family,
    names: Sequence[str],
    tensors: Mapping[str, Tensor],
    where: str,
) -> None:
    """Replace weights by name; a fused tensor is copied once, however many slices change.

    Raises:
        Refused: no such weight, or another shape.
    """
    fused: dict[tuple[int, str], tuple[nn.Module, Tensor]] = {}
    for name in names:
        slot = find(layer, family, name)
        if slot is None:
            raise Refused(f"{where} has no weight {name!r}.")
        if name not in tensors:
            continue
        value, old = tensors[name], slot.read()
        if value.shape != old.shape:
            raise Refused(
                f"{where}: {name!r} is {tuple(old.shape)}, the new value {tuple(value.shape)}."
            )
        if not slot.index:
            put(slot.module, slot.parameter, value.to(old))
        else:
            _copy_once(fused, slot)[slot.index] = value.to(old)
    for (_, parameter), (module, tensor) in fused.items():
        put(module, parameter, tensor)


def _copy_once(fused: dict[tuple[int, str], tuple[nn.Module, Tensor]], slot: Slot) -> Tensor:
    key = (id(slot.module), slot.parameter)
    if key not in fused:
        original: Tensor = getattr(slot.module, slot.parameter)
        fused[key] = (slot.module, original.detach().clone())
    return fused[key][1]
