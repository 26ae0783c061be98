"""Putting quantized matrices in the places of dense ones, on a private shell of a block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from harness.errors import Refused
from harness.model.editing.matrices import Slot, find, linear_place, row_numbers
from harness.model.editing.surgery import own, place_experts, set_weights
from harness.model.families.family import Family, Layer
from harness.model.layers.bank import ExpertMatrices
from harness.model.layers.packed import PackedLinear
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.shell import compact


def quantize(
    layer: Layer,
    family: Family,
    names: Sequence[str],
    scheme: Scheme,
    tensors: Mapping[str, Tensor],
    where: str,
) -> None:
    """Replace matrices, or factors, by quantized ones: packed, or simulated where they cannot be.

    Without tensors (a reload) packed ones get blanks of the right shapes.

    Raises:
        Refused: no such matrix, the router, one that is quantized already, or tensors that do not
            fit.
    """
    quantized = {
        name: _quantized(name, _slot(layer, family, name, where), scheme, tensors, where)
        for name in names
    }
    if not scheme.packed:
        dense = {name: one.dequantise() for name, one in quantized.items()} if tensors else {}
        set_weights(layer, family, names, dense, where)
        return
    routed: dict[int, ExpertMatrices] = {}
    for name, matrix in quantized.items():
        if name.startswith("experts."):
            _, number, role = name.split(".", 2)
            routed.setdefault(int(number), {})[role] = matrix
        else:
            _replace_linear(layer, family, name, matrix)
    if routed:
        parts = own(layer.mlp).parts()
        for expert, new in routed.items():
            parts[expert] |= new
        place_experts(layer.mlp, parts, row_numbers(layer.mlp))


def _slot(layer: Layer, family: Family, name: str, where: str) -> Slot:
    slot = find(layer, family, name)
    if slot is None:
        low = find(layer, family, f"{name}.u") is not None
        hint = "is low-rank; quantize its factors" if low else "is not there"
        raise Refused(f"{where}: {name} {hint}.")
    if name.startswith("router") or name.endswith("_norm"):
        raise Refused(f"{where}: {name} cannot be quantized; routers and norms stay as they are.")
    if slot.packed is not None:
        raise Refused(f"{where}: {name} is quantized already.")
    return slot


def _quantized(
    name: str, slot: Slot, scheme: Scheme, tensors: Mapping[str, Tensor], where: str
) -> Quantized:
    """The matrix from the edit's tensors, scales in the dtype of the weight it replaces."""
    weight = slot.read()
    blank = Quantized.blank(scheme, weight.shape, weight.to("meta"))
    given = {part: tensors.get(f"{name}.{part}") for part in blank.tensors}
    held = {part: tensor for part, tensor in given.items() if tensor is not None}
    if not held and (weight.is_meta or not tensors):
        return Quantized.blank(scheme, weight.shape, weight)
    shapes = {part: tuple(tensor.shape) for part, tensor in held.items()}
    if shapes != {part: tuple(tensor.shape) for part, tensor in blank.tensors.items()}:
        raise Refused(f"{where}: the codes, scales or zeros of {name} are missing or do not fit.")
    # In memory of its own: a view of a stack would keep, and could not save, all it is cut from.
    return blank.holding({part: compact(tensor) for part, tensor in held.items()}).to(weight)


def _replace_linear(layer: Layer, family: Family, name: str, matrix: Quantized) -> None:
    place = linear_place(layer, family, name)
    if place is None:
        raise Refused(f"{name} cannot be quantized: it is no linear layer.")
    owner, attribute = place
    factor = name.split(".")[2:]
    if factor:
        owner, attribute = getattr(owner, attribute), factor[0]
    linear: nn.Linear = getattr(owner, attribute)
    setattr(owner, attribute, PackedLinear(matrix, linear.bias))
