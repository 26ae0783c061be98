"""The first half of a cell: open the base model, run its steps, save the artifact."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plan.cell import CellStep, step_info
from harness.records.record import CalibrationInfo, Memory, StepInfo
from harness.run.job import Job, Say
from harness.run.models import data_of, open_base

if TYPE_CHECKING:
    from harness.calibration.tokens import Tokens
    from harness.method.recipe import StepReport
    from harness.model.view import MoEModel


@dataclass(frozen=True)
class Compressed:
    """What compressing a model has shown, under the names a record has for it."""

    recipe: list[StepInfo]
    notes: list[dict[str, Any]]
    edits: list[dict[str, Any]]
    compression_seconds: float | None
    """None for the baseline, like the two below."""
    compression_cpu_seconds: float | None
    memory_compressing: Memory | None
    warnings: list[str]


def compress_to(folder: Path, job: Job, say: Say) -> Compressed:
    """Carry a cell's steps out on its base model and save the artifact in `folder`.

    The baseline has no steps, and is saved all the same. Nothing stays in memory.

    Raises:
        Refused: a step cannot be carried out.
        UserError: the model or the calibration data cannot be had.
    """
    from harness.model.files import artifact

    say("loading the model")
    model = open_base(job.cell, streaming=job.streaming)
    found = run_steps(model, job, say)
    say("saving the artifact")
    artifact.save(
        model,
        folder,
        recipe=[{"method": step.method, **step.options} for step in job.cell.steps],
        calibration=[
            step.calibration.model_dump(exclude={"tokens_per_expert"})
            for step in found.recipe
            if step.calibration
        ],
    )
    return found


def run_steps(model: MoEModel, job: Job, say: Say) -> Compressed:
    """Carry the cell's steps out on `model`, one after the other."""
    from harness.measure.memory import PeakMemory

    if not job.cell.steps:
        return Compressed([], [], [], None, None, None, [])
    wall, cpu = time.perf_counter(), time.process_time()
    notes: list[dict[str, Any]] = []
    warnings: list[str] = []
    recipe = []
    with PeakMemory(model.device) as peak:
        for step in job.cell.steps:
            say(f"running {step.method}")
            report, calibration = run_step(model, step, job)
            notes += [note.model_dump(mode="json") for note in report.notes]
            warnings += report.warnings
            recipe.append(step_info(step, calibration=calibration, seconds=report.seconds))
    return Compressed(
        recipe,
        notes,
        [edit.data() for edit in model.edits],
        time.perf_counter() - wall,
        time.process_time() - cpu,
        peak.memory,
        warnings,
    )


def run_dry(model: MoEModel, step: CellStep) -> None:
    """Apply one step to a model on the meta device, without tokens.

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


def run_step(model: MoEModel, step: CellStep, job: Job) -> tuple[StepReport, CalibrationInfo]:
    """Apply one step to `model`: its report, and what it was calibrated on."""
    from harness.calibration.walk import Calibration
    from harness.method import registry
    from harness.method.recipe import BoundStep, compress

    method = registry.build(step.method, dict(step.options))
    tokens = draw(step, model, job)
    keep(tokens, job.cache / "tokens" / f"{tokens.sha256}.safetensors")
    form = step.calibration
    calibration = Calibration(tokens, batch_size=form.batch_size, cache=job.cache)
    [report] = compress(model, [BoundStep(method, calibration)])
    counts = {block: seen.count.tolist() for block, seen in calibration.coverage.items()}
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


def draw(step: CellStep, model: MoEModel, job: Job) -> Tokens:
    """The calibration tokens of a step."""
    from harness.calibration.corpora.draw import tokens

    form = step.calibration
    return tokens(
        form.ref,
        model.tokenizer,
        sequences=form.sequences,
        length=form.length,
        seed=form.seed,
        data=data_of(job),
    )


def keep(tokens: Tokens, path: Path) -> None:
    """Save the tokens under their hash, as a file that `ref` of a calibration can name again."""
    if tokens.sequences and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        tokens.save(path)
