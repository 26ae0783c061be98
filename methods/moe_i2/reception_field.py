"""KT-reception field: of the best choices for consecutive layers, those that go best together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.calibration.states import States
from harness.method import KeepExperts, LiveBlock, MoEModel

Choices = Mapping[int, Sequence[KeepExperts]]
"""Candidates by block, the best first; blocks without any are run as they are."""


def fields(model: MoEModel, size: int) -> list[int]:
    """Return the number of blocks of each field; the last field takes the rest.

    Args:
        model: The model.
        size: Number of MoE layers per field: the block of the `size`-th one is the field's last.
    """
    ends: list[int] = []
    layers = 0
    for place, block in enumerate(model.blocks, 1):
        layers += bool(block.experts)
        if block.experts and layers % size == 0:
            ends.append(place)
    ends = [*ends[: len(ends) - (layers % size == 0)], len(model.blocks)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def combined_losses(blocks: Sequence[LiveBlock], choices: Choices) -> list[float]:
    """Return the loss of every combination of choices, in lexicographic order, first block slowest.

    The loss is the sum over calibration batches of the Frobenius norm, over valid tokens, of the
    difference between what leaves the last block and what leaves it in the original model.
    Combinations share the runs of the blocks they have in common: T blocks of K choices take
    K + ... + K^T block runs instead of T K^T, and T states are held at a time.

    Args:
        blocks: Consecutive blocks; the first one's inputs enter the field.
        choices: Candidates by block.
    """
    target = blocks[-1].original.outputs()
    return _below(blocks, blocks[0].inputs, choices, target)


def combination(blocks: Sequence[LiveBlock], choices: Choices, number: int) -> list[KeepExperts]:
    """Return the edits of a combination, by its number in `combined_losses`."""
    edits: list[KeepExperts] = []
    for block in reversed(blocks):
        candidates = choices.get(block.index, ())
        if candidates:
            number, place = divmod(number, len(candidates))
            edits.append(candidates[place])
    return edits[::-1]


def _below(
    blocks: Sequence[LiveBlock], states: States, choices: Choices, target: States
) -> list[float]:
    if not blocks:
        return [_distance(states, target)]
    block, *rest = blocks
    losses: list[float] = []
    candidates = choices.get(block.index, ())
    if not candidates:
        return _below(rest, block.run(states), choices, target)
    for edit in candidates:
        losses += _below(rest, block.run(states, edit), choices, target)
    return losses


def _distance(states: States, target: States) -> float:
    total = 0.0
    for batch, (hidden, wanted) in enumerate(zip(states.batches, target.batches, strict=True)):
        difference = hidden.double() - wanted.double()  # [sequences, length, hidden]
        valid = states.trace.valid(batch)
        rows = difference if valid is None else difference[valid.to(difference.device)]
        total += float(rows.norm())
    return total
