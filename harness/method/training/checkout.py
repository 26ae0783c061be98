"""A model checked out for training, and the way back: the trained weights as edits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from harness.errors import Refused
from harness.model.editing.matrices import NORMS, Slot, find
from harness.model.edits import SetWeights
from harness.model.shell import shell

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.model.view import Block, MoEModel


def checkout(model: MoEModel) -> PreTrainedModel:
    """Return a transformers model to train: every module a copy, every tensor the model's own.

    Put new parameters on it, or modules that hold some; never write into a tensor.
    """
    copy: PreTrainedModel = shell(model.lm)  # type: ignore[assignment]
    return copy


def slots(model: MoEModel, module: nn.Module, block: Block) -> dict[str, Slot]:
    """Return the places of a block's matrices and norms in a checked-out model, by name."""
    names = (*(matrix.name for matrix in block.matrices()), *NORMS)
    layer = module.model.layers[model.numbers.index(block.index)]  # type: ignore[index,union-attr]
    places = {name: find(layer, model.family, name) for name in names}
    return {name: slot for name, slot in places.items() if slot is not None}


def changes(model: MoEModel, module: nn.Module) -> Iterator[SetWeights]:
    """Yield one SetWeights per block in which `module`, checked out of `model`, differs from it.

    Of a parameter that holds several matrices (fused experts), all are set.

    Raises:
        Refused: a parameter was replaced that no edit names, or the structure is another.
    """
    replaced = _replaced(model.lm, module)
    trained: dict[int, dict[str, Tensor]] = {}
    for block in model.blocks:
        for name, slot in slots(model, module, block).items():
            if (id(slot.module), slot.parameter) in replaced:
                trained.setdefault(block.index, {})[name] = slot.read()
    _check(model, module, replaced)
    for index, tensors in trained.items():
        yield SetWeights.of(index, tensors)


def _replaced(old: nn.Module, new: nn.Module) -> dict[tuple[int, str], str]:
    """Full names of the parameters that are other objects than before, by (module, parameter)."""
    before = dict(old.named_parameters(remove_duplicate=False))
    after = dict(new.named_parameters(remove_duplicate=False))
    for name in sorted(before.keys() ^ after.keys()):
        raise Refused(f"{name} is in the model before or after training only; no edit says that.")
    replaced = {}
    for path, part in new.named_modules(remove_duplicate=False):
        for parameter in part._parameters:
            name = f"{path}.{parameter}" if path else parameter
            if name in after and after[name] is not before[name]:
                replaced[id(part), parameter] = name
    return replaced


def _check(model: MoEModel, module: nn.Module, replaced: dict[tuple[int, str], str]) -> None:
    """Refuse a replaced parameter that is neither a matrix nor a norm of a block."""
    named = {
        (id(slot.module), slot.parameter)
        for block in model.blocks
        for slot in slots(model, module, block).values()
    }
    for place, name in replaced.items():
        if place not in named:
            raise Refused(f"{name} was trained, and no edit can set it; train matrices of blocks.")
