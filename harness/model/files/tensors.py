"""The persistent tensors of a model under their names in an artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from harness.errors import UserError
from harness.model.view import MoEModel

LAYER = "model.layers."
"""The text before a block's number in the names of its tensors."""


def _parts(model: MoEModel) -> Iterator[dict[str, Tensor]]:
    """The tensors of the frame and of each block, under their names in the artifact."""
    yield frame_state(model)
    for index in model.numbers:
        layer = model.layer(index).state_dict()
        yield {f"{LAYER}{index}.{name}": tensor for name, tensor in layer.items()}


def frame_state(model: MoEModel) -> dict[str, Tensor]:
    """The persistent tensors outside the blocks; tied weights once."""
    tensors: dict[str, Tensor] = dict(model.frame.state_dict())
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return tensors


def state(model: MoEModel) -> dict[str, Tensor]:
    """All persistent tensors under the base's block numbers; tied weights once."""
    return {name: tensor for part in _parts(model) for name, tensor in part.items()}


def agree(
    expected: Mapping[str, Tensor],
    held: Mapping[str, Tensor],
    folder: Path,
    *,
    what: str = "tensors and edits",
) -> None:
    """Check names and shapes.

    Raises:
        UserError: one is missing, left over, or of another shape.
    """
    for names, problem in (
        (sorted(set(expected) - set(held)), "missing"),
        (sorted(set(held) - set(expected)), "left over"),
        (
            sorted(n for n in expected if n in held and expected[n].shape != held[n].shape),
            f"of another shape than the {what.split()[-1]} say",
        ),
    ):
        if names:
            raise UserError(
                f"{folder}: {what} do not agree: {len(names)} {problem}, the first is {names[0]}."
            )
