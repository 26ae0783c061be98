"""The models of a cell on random weights, which no file has held.

They are drawn where the model runs, after the edits: memory, bytes, FLOPs and speed of full-size
models, without their checkpoints.
"""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

from harness.plan.cell import Cell, step_info
from harness.run.stages.compressing import Compression, run_dry
from harness.run.stages.models import Models
from harness.run.stages.opening import device, open_on_meta

if TYPE_CHECKING:
    from harness.measure.speed.throughput import Prompts
    from harness.model.view import MoEModel
    from harness.records.record import Size

logger = logging.getLogger(__name__)

MARGIN = 8 * 2**30
"""Bytes that caches, activations and CUDA graphs of two models may take beside their weights."""


class RandomModels(Models):
    """Both models are built from the base model's configuration, their weights drawn at random."""

    folder: None = None
    _model: MoEModel
    """The compressed model, once `compress` has built it."""

    def compress(self) -> Compression:
        """Carry the steps out on the meta device without tokens, as in a dry run.

        What they choose to remove is arbitrary; how much is not. Their notes are about values that
        there are not, and left out.

        Raises:
            Refused: a step cannot be carried out.
            UserError: the model's configuration cannot be had.
        """
        cell = self.job.cell
        self.say("building the model on the meta device")
        self._model = open_on_meta(cell.model.ref, cell.protocol)
        for step in cell.steps:
            self.say(f"running {step.method}")
            run_dry(self._model, step)
        recipe = [step_info(step) for step in cell.steps]
        return Compression(recipe, edits=[edit.data() for edit in self._model.edits])

    def compressed_model(self) -> MoEModel:
        """Draw the weights that the edits have left, whole in memory."""
        self.say("drawing random weights")
        fill(self._model, self.job.cell)
        return self._model

    def base_model(self, beside: MoEModel) -> MoEModel:
        """Draw the base model's weights, in shared memory where both models do not fit."""
        self.say("building the baseline")
        base, shared = base_beside(beside, self.job.cell, room=room())
        if shared:
            logger.warning(
                "Speed: this model's dense weights lay in the baseline's memory, since both do "
                "not fit beside each other; both are random."
            )
        return base

    def size(self, compressed: MoEModel) -> Size:
        """Count parameters, and the bytes that an artifact's tensors would take."""
        from harness.measure.size import measure_size
        from harness.model.files.random_values import stored_bytes

        size = measure_size(compressed, None, values=False)
        return size.model_copy(update={"artifact_bytes": stored_bytes(compressed)})

    def prompts(self, compressed: MoEModel) -> Prompts:
        """Draw random tokens: no tokenizer comes with a configuration."""
        from harness.measure.speed.throughput import Prompts

        return Prompts.random(self.job.cell.protocol.instructions, compressed.config.vocab_size)


def base_beside(model: MoEModel, cell: Cell, *, room: int | None) -> tuple[MoEModel, bool]:
    """Build the base of a model with random weights, on the same device.

    Where there is no room for both, the model's large dense weights move into the base's memory:
    their values do not matter, and no two of them overlap. Both are then measured in turns as
    always.

    Args:
        model: The compressed model, its weights drawn.
        cell: The cell of both.
        room: Bytes left on the device; None for enough.

    Returns:
        The base, which is `model` itself where it has no edits; and True if memory is shared.
    """
    from harness.measure.size import measure_size
    from harness.model.files.random_values import release

    if not model.edits:
        return model, False
    base = open_on_meta(cell.model.ref, cell.protocol)
    needed = measure_size(base, None).parameters * model.dtype.itemsize + MARGIN
    if room is None or needed <= room:
        fill(base, cell)
        return base, False
    release(model)
    fill(base, cell)
    fill(model, cell, lender=base)
    return base, True


def room() -> int | None:
    """Return the bytes left on the GPU; None on a CPU, which has enough for what runs there."""
    import torch

    if device() != "cuda":
        return None
    gc.collect()
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info()[0])


def fill(model: MoEModel, cell: Cell, *, lender: MoEModel | None = None) -> None:
    """Draw a model's weights where cells run, from the cell's seed.

    Args:
        model: The model, its edits applied; weights that it has stay.
        cell: The cell, for the seed, the number format and the patterns of its steps.
        lender: As for `harness.model.files.random_values.materialise`.
    """
    import torch

    from harness.model.files.random_values import materialise

    dtype = getattr(torch, cell.protocol.dtype)
    materialise(model, device(), seed=cell.seed, dtype=dtype, lender=lender)
    for step in cell.steps:
        if step.options.get("pattern") is not None:
            mask(model, str(step.options["pattern"]))


def mask(model: MoEModel, pattern: str) -> None:
    """Zero weights that edits have set in a pattern n:m, the first n of every m inputs.

    Semi-structured kernels take what has the zeros; which of the m they are changes nothing.
    """
    from harness.model.edits import SetWeights
    from harness.model.view import Block

    zeros, of = (int(number) for number in pattern.split(":"))
    for edit in model.edits:
        if not isinstance(edit, SetWeights) or edit.block not in model.numbers:
            continue
        block = Block(model, edit.block)
        for name in edit.matrices:
            if block.has(name) and block.packed_scheme(name) is None:
                weight = block.weight(name)  # a view of what was drawn just now
                for place in range(zeros):
                    weight[:, place::of] = 0
