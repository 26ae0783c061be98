"""The change that each edit makes to a decoder layer. Every function works on a private shell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from harness.errors import Refused
from harness.model.editing.matrices import Slot, expert_numbers, find, linear_place, row_numbers
from harness.model.families.family import Family, Layer
from harness.model.layers.bank import ExpertMatrices
from harness.model.layers.experts import NOWHERE, Experts
from harness.model.layers.factors import Factors
from harness.model.layers.router import MaskedRouter, grouping, renormalises
from harness.model.shell import put

M = TypeVar("M", bound=nn.Module)
Routing = Literal["rows", "mask", "preserve"]
"""The router's fate when experts go."""


class Nothing(nn.Module):
    """A sublayer that adds nothing to the residual stream."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Zeros of the input's shape."""
        return torch.zeros_like(hidden)


def keep_experts(
    layer: Layer, family: Family, experts: Sequence[int], router: Routing, *, where: str
) -> None:
    """Select experts by base number, and do with the router's rows what is asked.

    Raises:
        Refused: no experts here, experts gone already, or uneven groups of a group-limited router.
    """
    mlp = layer.mlp
    numbers = _present(mlp, experts, where)
    rows = row_numbers(mlp)
    left = [place for place, number in enumerate(rows) if number in experts]
    if router == "rows" and grouping(mlp.gate) is not None:
        _check_groups(mlp.gate, left, where)
        experts = [rows[place] for place in left]  # a group's rows follow each other
    if router == "rows" and not isinstance(mlp.experts, Experts):
        _slice(mlp, [numbers.index(expert) for expert in experts], experts)
        return
    owned = own(mlp)
    kept_rows = [number if number in experts else NOWHERE for number in rows]
    if router == "rows":
        _cut_rows(mlp.gate, left)
        kept_rows = [rows[place] for place in left]
    elif router == "mask":
        mask = torch.tensor([number != NOWHERE for number in kept_rows])
        if isinstance(mlp.gate, MaskedRouter):
            mask &= mlp.gate.kept.cpu()
        mlp.gate = _resident(MaskedRouter(mlp.gate, family, mask), mlp.gate)
    parts = owned.parts()
    place_experts(mlp, {expert: parts[expert] for expert in experts}, kept_rows)


def merge_experts(
    layer: Layer, groups: Sequence[Sequence[int]], weights: Sequence[Sequence[float]], *, where: str
) -> None:
    """Replace the experts of each group by their weighted mean, under the first one's number.

    Raises:
        Refused: no experts here, not every expert in one group, or experts that are low-rank or
            quantized.
    """
    mlp = layer.mlp
    _check_partition(_present(mlp, [], where), groups, where)
    if [len(group) for group in groups] != [len(share) for share in weights]:
        raise Refused(f"{where}: groups and weights do not match; give one weight per member.")
    owned = own(mlp)
    parts = {expert: _dense(one, where) for expert, one in owned.parts().items()}
    merged: dict[int, ExpertMatrices] = {
        group[0]: _mean([parts[expert] for expert in group], share)
        for group, share in zip(groups, weights, strict=True)
    }
    leads = {expert: group[0] for group in groups for expert in group}
    order = [number for number in owned.base_numbers if number in merged]
    rows = [leads.get(row, NOWHERE) for row in owned.rows]
    place_experts(mlp, {number: merged[number] for number in order}, rows)


def factorise(
    layer: Layer,
    family: Family,
    ranks: Mapping[str, int],
    tensors: Mapping[str, Tensor],
    where: str,
) -> None:
    """Replace matrices by chains of two factors.

    Raises:
        Refused: no such matrix or low-rank already, a rank that does not fit, or factors of
            another shape.
    """
    routed: dict[int, ExpertMatrices] = {}
    for name, rank in ranks.items():
        slot = find(layer, family, name)
        if slot is None:
            low = find(layer, family, f"{name}.u") is not None
            raise Refused(
                f"{where}: {name} is low-rank already." if low else f"{where} has no {name}."
            )
        if slot.packed is not None:
            raise Refused(f"{where}: {name} is quantized; factorise before quantizing.")
        u, v = _factors(name, rank, slot.read(), tensors, where)
        if name.startswith("experts."):
            _, number, role = name.split(".")
            routed.setdefault(int(number), {}).update({f"{role}.u": u, f"{role}.v": v})
            continue
        place = linear_place(layer, family, name)
        if place is None:
            raise Refused(f"{where}: {name} cannot be low-rank; factorise linear layers.")
        owner, attribute = place
        setattr(owner, attribute, Factors(u, v, getattr(owner, attribute).bias))
    if routed:
        parts = own(layer.mlp).parts()
        for expert, new in routed.items():
            dense = {name.partition(".")[0] for name in new}
            kept = {name: part for name, part in parts[expert].items() if name not in dense}
            parts[expert] = kept | new
        place_experts(layer.mlp, parts, row_numbers(layer.mlp))


def skip_experts(layer: Layer, family: Family, beta: float, *, where: str) -> None:
    """Skip chosen experts whose weight is below `beta` times the token's largest.

    Raises:
        Refused: no experts here, or one expert per token.
    """
    mlp = layer.mlp
    _present(mlp, [], where)
    if int(mlp.gate.top_k) < 2:
        raise Refused(f"{where} chooses one expert per token: there is none to skip.")
    owned = own(mlp)
    owned.beta, owned.renormalise = beta, renormalises(mlp.gate, family)


def own(mlp: Layer) -> Experts:
    """The run-time experts of a layer; transformers' own are adopted, their tensors shared."""
    if not isinstance(mlp.experts, Experts):
        mlp.experts = _resident(Experts.adopt(mlp.experts, expert_numbers(mlp)), mlp.gate)
    experts: Experts = mlp.experts
    return experts


def place_experts(mlp: Layer, parts: Mapping[int, ExpertMatrices], rows: Sequence[int]) -> None:
    """New run-time experts in a layer; whether and how they skip stays."""
    old = own(mlp)
    experts = Experts.of(parts, rows, old.act_fn, beta=old.beta, renormalise=old.renormalise)
    mlp.experts = _resident(experts, mlp.gate)
    for part in (mlp, mlp.gate):
        if hasattr(part, "top_k") and not isinstance(mlp.gate, MaskedRouter):
            part.top_k = min(int(part.top_k), len(rows))


def _slice(mlp: Layer, positions: Sequence[int], experts: Sequence[int]) -> None:
    """Slices of transformers' fused experts, and rows of its router."""
    gate, fused = mlp.gate, mlp.experts
    index = torch.tensor(positions, device=_device(gate))
    for name in ("gate_up_proj", "down_proj"):
        put(fused, name, getattr(fused, name).index_select(0, index))
    fused.num_experts = len(positions)
    fused.base_numbers = tuple(experts)
    _cut_rows(gate, positions)
    if hasattr(mlp, "num_experts"):
        mlp.num_experts = len(positions)
    if hasattr(mlp, "top_k"):
        mlp.top_k = min(int(mlp.top_k), gate.top_k)


def _cut_rows(gate: Layer, rows: Sequence[int]) -> None:
    index = torch.tensor(rows, device=_device(gate))
    put(gate, "weight", gate.weight.index_select(0, index))
    gate.num_experts = len(rows)
    if isinstance(gate, MaskedRouter):
        gate.kept = gate.kept[list(rows)]
        gate.top_k = min(gate.top_k, int(gate.kept.sum()))
        return
    limit = grouping(gate)
    reach = len(rows) if limit is None else len(rows) // limit.groups * limit.chosen
    gate.top_k = min(int(gate.top_k), reach)


def _present(mlp: Layer, experts: Sequence[int], where: str) -> tuple[int, ...]:
    """The experts of a layer, these among them."""
    numbers = expert_numbers(mlp)
    if not numbers:
        raise Refused(f"{where} has no experts: it is dense, or its MoE layer is dropped.")
    gone = sorted(set(experts) - set(numbers))
    if gone:
        raise Refused(f"{where} has no expert {gone[0]}; its experts are {list(numbers)}.")
    return numbers


def _check_partition(numbers: Sequence[int], groups: Sequence[Sequence[int]], where: str) -> None:
    grouped = sorted(expert for group in groups for expert in group)
    if grouped != sorted(numbers):
        raise Refused(
            f"{where} has the experts {list(numbers)} and the groups hold {grouped}; "
            "name each expert once."
        )


def _dense(parts: ExpertMatrices, where: str) -> dict[str, Tensor]:
    """An expert's matrices, all of them whole."""
    whole = {}
    for name, part in parts.items():
        if "." in name or not isinstance(part, Tensor):
            kind = "low-rank" if "." in name else "quantized"
            raise Refused(f"{where} has {kind} experts, which cannot be merged; merge first.")
        whole[name] = part
    return whole


def _mean(experts: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> ExpertMatrices:
    """The weighted mean of experts, summed in fp32."""
    total = sum(weights)
    shares = [weight / total for weight in weights] if total else [1 / len(weights)] * len(weights)
    return {
        name: sum(
            (one[name].float() * share for one, share in zip(experts, shares, strict=True)),
            start=torch.zeros_like(experts[0][name], dtype=torch.float32),
        ).to(experts[0][name].dtype)
        for name in experts[0]
    }


def _factors(
    name: str, rank: int, weight: Tensor, tensors: Mapping[str, Tensor], where: str
) -> tuple[Tensor, Tensor]:
    """The factors [outputs, rank] and [rank, inputs], in the dtype; on meta, only shapes."""
    outputs, inputs = weight.shape
    if not 1 <= rank <= min(outputs, inputs):
        raise Refused(
            f"{where}: rank {rank} of {name} is outside 1 to {min(outputs, inputs)}, its full rank."
        )
    factors = []
    for factor, shape in (("u", (outputs, rank)), ("v", (rank, inputs))):
        tensor = tensors.get(f"{name}.{factor}")
        if tensor is None and not weight.is_meta:
            raise Refused(f"{where}: {name} became low-rank without factors.")
        tensor = weight.new_empty(shape) if tensor is None else tensor.to(weight)
        if tuple(tensor.shape) != shape:
            raise Refused(f"{where}: {name}.{factor} is {tuple(tensor.shape)}, not {shape}.")
        factors.append(tensor)
    return factors[0], factors[1]


def _resident(module: M, gate: Layer) -> M:
    """The module with its buffers beside the router; on the meta device they stay real."""
    device = _device(gate)
    return module if device.type == "meta" else module.to(device)


def _device(gate: Layer) -> torch.device:
    device: torch.device = gate.weight.device
    return device


def _check_groups(gate: Layer, positions: Sequence[int], where: str) -> None:
    limit = grouping(gate)
    if limit is None:
        return
    of_row = limit.of_row(gate.num_experts)
    kept = [sum(of_row[place] == group for place in positions) for group in range(limit.groups)]
    if len(set(kept)) > 1:
        raise Refused(
            f"{where} has a group-limited router with {limit.groups} groups and would keep {kept} "
            'experts of them; keep equally many of each group, or set router = "mask".'
        )


def drop_moe(layer: Layer, *, where: str) -> None:
    """Replace the MoE layer, or a dense block's MLP, and its norm.

    Raises:
        Refused: it is dropped already.
    """
    if isinstance(layer.mlp, Nothing):
        raise Refused(f"{where} has no MoE layer to drop: it is dropped already.")
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
        if slot.packed is not None:
            raise Refused(f"{where}: {name} is quantized; change weights before quantizing.")
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
