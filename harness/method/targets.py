"""Which parts of a model's blocks a method changes."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from harness.errors import Refused
from harness.model.editing.matrices import PARTS, Part

if TYPE_CHECKING:
    from harness.model.view import MoEModel


def targeted(model: MoEModel, targets: Set[Part] | None, what: str) -> tuple[Part, ...]:
    """The parts named, in order; by default routed and shared experts, or a dense model's MLP.

    Args:
        model: What is changed.
        targets: The parts that the user names.
        what: What happens to them, as in "to prune".

    Raises:
        Refused: the model has none of a part that is named, or nothing of the default.
    """
    present = {matrix.part for block in model.blocks for matrix in block.matrices()}
    default: set[Part] = {"experts", "shared"} if model.experts else {"dense"}
    wanted = targets if targets is not None else default & present
    for part in sorted(wanted - present):
        listed = ", ".join(one for one in PARTS if one in present)
        raise Refused(f"targets: {model.ref} has no {part!r}; it has {listed}.")
    if not wanted:
        raise Refused(f"{model.ref} has no experts left {what}; set targets.")
    return tuple(part for part in PARTS if part in wanted)
