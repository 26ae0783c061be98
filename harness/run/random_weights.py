"""A cell's models with random weights: the first half of a cell that has no files."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from harness.plan.cell import Cell, step_info
from harness.run.compressing import Compressed, run_dry
from harness.run.job import Job, Say
from harness.run.models import device, open_on_meta

if TYPE_CHECKING:
    from harness.model.view import MoEModel

MARGIN = 8 * 2**30
"""Bytes that caches, activations and CUDA graphs of two models may take beside their weights."""


def build(job: Job, say: Say) -> tuple[MoEModel, Compressed]:
    """The cell's compressed model with random weights, whole in memory, and its edits.

    The steps run on the meta device without tokens, as in a dry run. What they choose to remove is
    arbitrary; how much is not. Their notes are about values that there are not, and left out.

    Raises:
        Refused: a step cannot be carried out.
        UserError: the model's configuration cannot be had.
    """
    say("building the model on the meta device")
    model = open_on_meta(job.cell)
    for step in job.cell.steps:
        say(f"running {step.method}")
        run_dry(model, step)
    say("drawing random weights")
    fill(model, job.cell)
    recipe = [step_info(step) for step in job.cell.steps]
    edits = [edit.data() for edit in model.edits]
    return model, Compressed(recipe, [], edits, None, None, None, [])


def open_random(cell: Cell) -> MoEModel:
    """The base model with random weights."""
    model = open_on_meta(cell)
    fill(model, cell)
    return model


def beside(model: MoEModel, cell: Cell, *, room: int | None) -> tuple[MoEModel, bool]:
    """The base of a model with random weights, on the same device.

    Where there is no room for both, the model's large dense weights move into the base's memory:
    their values do not matter, and no two of them overlap. Both are then measured in turns as
    always.

    Args:
        model: As `build` left it.
        cell: Its cell.
        room: Bytes left on the device; None for enough.

    Returns:
        The base, which is `model` itself where it has no edits; and whether memory is shared.
    """
    from harness.measure.size import measure_size
    from harness.model.files.random_values import release

    if not model.edits:
        return model, False
    base = open_on_meta(cell)
    needed = measure_size(base, None).parameters * model.dtype.itemsize + MARGIN
    if room is None or needed <= room:
        fill(base, cell)
        return base, False
    release(model)
    fill(base, cell)
    fill(model, cell, lender=base)
    return base, True


def room() -> int | None:
    """Bytes left on the GPU; None on a CPU, which has enough for what runs there."""
    import torch

    if device() != "cuda":
        return None
    gc.collect()
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info()[0])


def fill(model: MoEModel, cell: Cell, *, lender: MoEModel | None = None) -> None:
    """Draw a model's weights where cells run, from the cell's seed; `lender` as `materialise`."""
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
