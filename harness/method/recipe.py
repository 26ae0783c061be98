"""Run a recipe: each method yields edits, the harness applies each as it comes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from harness.calibration.walk import Calibration
from harness.code.modules import Unreadable
from harness.code.reach import code_sha256
from harness.errors import UserError
from harness.method.contract import Method, Note
from harness.method.registry import code_of
from harness.model.edits import Edit
from harness.model.view import MoEModel


@dataclass(frozen=True)
class BoundStep:
    """Step of a recipe, ready to run: the method built, its calibration at hand."""

    method: Method
    calibration: Calibration


@dataclass(frozen=True)
class StepReport:
    """Notes and cost of a step that was run."""

    notes: tuple[Note, ...]
    """Notes that the method yielded, in order."""
    warnings: tuple[str, ...]
    """Sentences for the user, one per block with experts that no calibration token reached."""
    seconds: float
    """Wall-clock time of the step."""


OnBlock = Callable[[int], None]
"""Called with the number of a block that an edit has just changed."""


def compress(
    model: MoEModel, steps: Sequence[BoundStep], on_block: OnBlock | None = None
) -> list[StepReport]:
    """Run the steps on `model`, one after the other; its base tensors are never written.

    Args:
        model: The model.
        steps: The steps.
        on_block: Told after every edit.

    Returns:
        A report per step.

    Raises:
        Refused: a method or an edit cannot be carried out; edits made before remain applied.
    """
    return [_run(model, step, on_block) for step in steps]


def _run(model: MoEModel, step: BoundStep, on_block: OnBlock | None) -> StepReport:
    start = time.perf_counter()
    model.begin(_provenance(step))
    notes: list[Note] = []
    try:
        for item in _items(step.method, model, step.calibration):
            if isinstance(item, Note):
                notes.append(item)
            else:
                model.apply(item)
                if on_block:
                    on_block(item.block)
    finally:
        model.begin("")
    seconds = time.perf_counter() - start
    return StepReport(tuple(notes), tuple(_unreached(step.calibration)), seconds)


def _items(method: Method, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
    """Resume the method under no_grad each time; `no_grad` around a yield would leak."""
    generator = method.compress(model, calibration)
    if not isinstance(generator, Iterator):
        raise UserError(
            f"method {method.name!r}: its 'compress' yields nothing; it should be a generator, "
            "which yields edits and notes."
        )
    while True:
        with torch.no_grad():
            try:
                item = next(generator)
            except StopIteration:
                return
        if not isinstance(item, (Edit, Note)):
            raise UserError(
                f"method {method.name!r} yields {type(item).__name__}, which is neither an edit "
                "nor a note."
            )
        yield item


def _provenance(step: BoundStep) -> str:
    """The hash of all that decides a step's edits; empty where the method has no source.

    It was typed at a prompt, and its edits are then like those made by hand.
    """
    method = step.method
    code = _code(type(method))
    if not code:
        return ""
    parts = [method.name, method.options(), code, step.calibration.key]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@cache
def _code(kind: type[Method]) -> str:
    """The digest of the code that a method can reach, asked once in a process."""
    try:
        return code_sha256(*code_of(kind))
    except Unreadable:
        return ""


def _unreached(calibration: Calibration) -> Iterator[str]:
    """One warning per block with experts that no calibration token reached."""
    if not calibration.tokens.sequences:
        return
    for index, tokens in sorted(calibration.coverage.items()):
        unseen = [expert for expert in tokens.experts if not int(tokens.count[expert])]
        if unseen:
            yield (
                f"block {index}: no token of calibration {calibration.tokens.ref!r} reached "
                f"{'expert' if len(unseen) == 1 else 'experts'} {', '.join(map(str, unseen))}"
            )
