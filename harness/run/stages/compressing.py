"""Compressing: a base model opened, the steps of a recipe carried out, the artifact saved."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plan.cell import CellStep, step_info
from harness.records.record import CalibrationInfo, Memory, StepInfo
from harness.run.job import Say
from harness.run.stages.opening import open_stored
from harness.run.ticks import Ticks

if TYPE_CHECKING:
    from harness.calibration.tokens import Tokens
    from harness.method.recipe import StepReport
    from harness.model.view import MoEModel
    from harness.records.protocol import Protocol


@dataclass(frozen=True)
class Compression:
    """The facts of a compression, under the names that a record has for them."""

    recipe: list[StepInfo]
    notes: list[dict[str, Any]] = field(default_factory=list)
    edits: list[dict[str, Any]] = field(default_factory=list)
    compression_seconds: float | None = None
    """Wall time of all steps; None where nothing was compressed, like the two below."""
    compression_cpu_seconds: float | None = None
    memory_compressing: Memory | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Places:
    """The data that compressing reads, and the cache of what later runs can use again."""

    data_root: Path | None
    """Folder with data sets as the hub lays them out; None for the hub."""
    cache: Path
    """Folder of statistics and calibration tokens."""


def compress_to(
    folder: Path,
    ref: str,
    steps: Sequence[CellStep],
    protocol: Protocol,
    places: Places,
    *,
    say: Say,
    streaming: bool = False,
    verify: bool = True,
) -> Compression:
    """Carry steps out on a model and save the artifact. Nothing stays in memory.

    Args:
        folder: Folder of the artifact; must not exist, or be empty.
        ref: The model's reference name, folder, artifact or hub id.
        steps: The steps in their order; without any, the model is saved as it is.
        protocol: Names the number format and the implementations.
        places: The data and the cache.
        say: Told what is being done.
        streaming: Hold only a few blocks in memory; the result is the same to the bit.
        verify: If the model is an artifact, refuse files that are not those that were saved.

    Raises:
        Refused: a step cannot be carried out.
        UserError: the model or the calibration data cannot be had.
    """
    from harness.model.files import artifact

    say("loading the model")
    model = open_stored(ref, protocol, streaming=streaming, verify=verify)
    compression = run_steps(model, steps, places, say=say)
    say("saving the artifact")
    artifact.save(
        model,
        folder,
        recipe=[{"method": step.method, **step.options} for step in steps],
        calibration=[
            step.calibration.model_dump(exclude={"tokens_per_expert"})
            for step in compression.recipe
            if step.calibration
        ],
    )
    return compression


def run_steps(
    model: MoEModel, steps: Sequence[CellStep], places: Places, *, say: Say
) -> Compression:
    """Carry steps out on an open model, one after the other."""
    from harness.measure.memory import PeakMemory

    if not steps:
        return Compression([])
    wall, cpu = time.perf_counter(), time.process_time()
    notes: list[dict[str, Any]] = []
    warnings: list[str] = []
    recipe = []
    with PeakMemory(model.device) as peak:
        for step in steps:
            say(f"running {step.method}")
            told = Ticks(say, f"running {step.method}", "blocks")
            report, calibration = run_step(model, step, places, told)
            notes += [note.model_dump(mode="json") for note in report.notes]
            warnings += report.warnings
            recipe.append(step_info(step, calibration=calibration, seconds=report.seconds))
    return Compression(
        recipe,
        notes,
        [edit.data() for edit in model.edits],
        time.perf_counter() - wall,
        time.process_time() - cpu,
        peak.memory,
        warnings,
    )


def run_dry(model: MoEModel, step: CellStep) -> None:
    """Carry a step out on a model on the meta device, without tokens.

    Raises:
        Refused: it cannot be carried out.
    """
    from harness.calibration.tokens import Tokens
    from harness.calibration.walk import Calibration
    from harness.method import registry
    from harness.method.recipe import BoundStep, compress

    method = registry.build(step.method, dict(step.options))
    form = step.calibration
    calibration = Calibration(Tokens.empty(form.length or 1), batch_size=form.batch_size)
    compress(model, [BoundStep(method, calibration)])


def run_step(
    model: MoEModel, step: CellStep, places: Places, told: Ticks | None = None
) -> tuple[StepReport, CalibrationInfo]:
    """Carry a step out on an open model; return its report, and what it was calibrated on.

    Args:
        model: The model.
        step: The step.
        places: The data and the cache.
        told: Told how many blocks an edit has reached.
    """
    from harness.calibration.cache import keep_tokens
    from harness.calibration.walk import Calibration
    from harness.method import registry
    from harness.method.recipe import BoundStep, compress

    method = registry.build(step.method, dict(step.options))
    tokens = draw(step, model, places.data_root)
    keep_tokens(tokens, places.cache)
    form = step.calibration
    calibration = Calibration(tokens, batch_size=form.batch_size, cache=places.cache)
    blocks = 1 + max(block.index for block in model.blocks)

    def on_block(block: int) -> None:
        if told is not None:
            told(block + 1, blocks)

    [report] = compress(model, [BoundStep(method, calibration)], on_block)
    counts = {block: routed.count.tolist() for block, routed in calibration.coverage.items()}
    info = CalibrationInfo(
        ref=tokens.ref,
        sha256=tokens.sha256,
        sequences=tokens.sequences,
        length=tokens.length,
        batch_size=form.batch_size,
        seed=tokens.seed,
        tokens_per_expert={block: dict(enumerate(count)) for block, count in counts.items()},
    )
    return report, info


def draw(step: CellStep, model: MoEModel, data_root: Path | None) -> Tokens:
    """Draw the calibration tokens of a step with the model's tokenizer."""
    from harness.calibration.corpora.draw import tokens
    from harness.data import DataRoot

    form = step.calibration
    return tokens(
        form.ref,
        model.tokenizer,
        sequences=form.sequences,
        length=form.length,
        seed=form.seed,
        data=DataRoot(data_root),
    )
