"""What compression does to the outputs of blocks and matrices, on tokens it has not seen."""

from __future__ import annotations

import math

from torch import Tensor

from harness.calibration.states import States
from harness.calibration.statistics.inputs import Covariances
from harness.calibration.walk import Calibration
from harness.errors import Refused
from harness.method.quantization.output_errors import objective
from harness.model.edits import QuantizeWeights
from harness.model.view import MoEModel


def layer_errors(before: MoEModel, after: MoEModel, calibration: Calibration) -> dict[int, float]:
    """||f'(h) - f(h)|| / ||f(h) - h|| of every block f of `before` that `after` still has.

    h are the states that enter f in `before`: no block's error counts in another's. What a block
    adds to its input is measured as a whole, so that this compares any two methods, one that moves
    scales from matrix to matrix with one that does not.

    Args:
        before: The model before some steps.
        after: The model after them.
        calibration: Tokens that the steps have not seen.
    """
    errors = {}
    for block in calibration.walk(before):
        if block.index not in after.numbers:
            continue
        version, key = after.version(block.index), after.key(block.index)
        others = block.inputs.through(block.index, version, key)
        wrong = added = 0.0
        for batch, (states, ours, theirs) in enumerate(
            zip(block.inputs.batches, block.outputs().batches, others.batches, strict=True)
        ):
            wrong += _squares(theirs - ours, block.inputs, batch)
            added += _squares(ours - states, block.inputs, batch)
        errors[block.index] = math.sqrt(wrong / added) if added else float("nan")
    return errors


def matrix_errors(
    before: MoEModel, after: MoEModel, calibration: Calibration
) -> dict[int, dict[str, float]]:
    """||(W - Q) X|| / ||W X|| of every matrix quantized since, by block and name.

    X is what the matrix multiplies in `before`; matrices that no token reaches are left out.

    Args:
        before: The model before some steps.
        after: The model after them.
        calibration: Tokens that the steps have not seen.

    Raises:
        Refused: other edits than `QuantizeWeights` were made since: what they changed would be
            taken for an error.
    """
    names: dict[int, list[str]] = {}
    for edit in after.edits[len(before.edits) :]:
        if not isinstance(edit, QuantizeWeights):
            raise Refused(
                f"block {edit.block}: {edit.kind} came with the quantization, so that its matrices "
                "cannot be compared one by one; compare layers."
            )
        names.setdefault(edit.block, []).extend(edit.matrices)
    errors: dict[int, dict[str, float]] = {}
    changed = {block.index: block for block in after.blocks}
    for block in calibration.walk(before):
        moments = block.collect(Covariances()).sums if block.index in names else {}
        for name in names.get(block.index, []):
            weight, values = block.weight(name), changed[block.index].weight(name)
            whole = objective(weight, weight.new_zeros(weight.shape), moments[name])
            if whole:
                error = objective(weight, values, moments[name]) / whole
                errors.setdefault(block.index, {})[name] = math.sqrt(error)
    return errors


def _squares(states: Tensor, inputs: States, batch: int) -> float:
    """Sum of squares over the tokens that are no padding; `states` [sequences, length, hidden]."""
    valid = inputs.trace.valid(batch)
    kept = states if valid is None else states[valid.to(states.device)]
    return float(kept.double().square().sum())
