"""Parts of a model's blocks that a method changes."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator

from harness.errors import Refused
from harness.model.editing.matrices import PARTS, Part

if TYPE_CHECKING:
    from harness.model.view import MoEModel

Target = Literal["experts", "shared", "dense", "attention"]
"""Part of a block that every method with `targets` can change; the router is none of them."""


def _some(targets: frozenset[Part]) -> frozenset[Part]:
    if not targets:
        raise ValueError("targets is empty; name experts, shared, dense or attention")
    return targets


Targets = Annotated[frozenset[Target], AfterValidator(_some)]
"""Option type of `targets`: parts of every block, at least one."""
TargetsOrRouter = Annotated[frozenset[Part], AfterValidator(_some)]
"""Option type of `targets` where the router may be named, too."""


def targeted(model: MoEModel, targets: Set[Part] | None, purpose: str) -> tuple[Part, ...]:
    """Return the parts named, in order; by default routed and shared experts, or a dense MLP.

    Args:
        model: The model that is to be changed.
        targets: The parts that the user names; None for the default.
        purpose: Change that is made to them, as in "to prune"; for the message.

    Raises:
        Refused: the model has none of a part that is named, or nothing of the default.
    """
    present = {matrix.part for block in model.blocks for matrix in block.matrices()}
    default: set[Part] = {"experts", "shared"} if model.experts else {"dense"}
    wanted = targets if targets is not None else default & present
    for part in sorted(wanted - present):
        listed = ", ".join(part for part in PARTS if part in present)
        raise Refused(f"targets: {model.ref} has no {part!r}; it has {listed}.")
    if not wanted:
        raise Refused(f"{model.ref} has no experts left {purpose}; set targets.")
    return tuple(part for part in PARTS if part in wanted)
