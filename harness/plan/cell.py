"""A cell: one model, one recipe, one seed, under one protocol.

Its id is a hash of everything that determines its result, and of nothing else: where the data
lies, how the suite is called and in which order keys are written change no id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness.errors import UserError
from harness.places import data_identity, data_root_of
from harness.plan.find import calibration_file
from harness.plan.forms import CalibrationForm
from harness.plan.suite import Step, Suite
from harness.records.protocol import Protocol
from harness.records.record import FORMAT, CalibrationInfo, ModelInfo, Record, StepInfo
from harness.records.store import PlannedCell


@dataclass(frozen=True)
class CellStep:
    """One step with nothing left open."""

    method: str
    options: Mapping[str, Any]
    """Every option of the method, defaults and seed included."""
    source: str
    """sha256 of the method's source."""
    calibration: CalibrationForm
    """Calibration of the step, with the corpus's own numbers where the suite gives none."""
    file: str = ""
    """sha256 of the calibration text where it is a local file; else empty."""


@dataclass(frozen=True)
class Cell:
    """One model x recipe x seed under the protocol; plain data that travels between processes."""

    suite: str
    model: ModelInfo
    row: str
    steps: tuple[CellStep, ...]
    """Steps in their order; none for the baseline."""
    seed: int
    protocol: Protocol
    data: str
    """Identity of the data; empty where it cannot be told cheaply."""
    id: str = field(init=False)
    """First 16 hexadecimal digits of the hash of everything that determines the result."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _identity(self))

    @property
    def name(self) -> str:
        """Model, recipe and seed in one line, for progress and errors."""
        return f"{self.model.ref}  {self.row}  seed {self.seed}"

    def planned(self) -> PlannedCell:
        """Return the cell as the plan in the results folder has it."""
        return PlannedCell(id=self.id, model=self.model.ref, row=self.row, seed=self.seed)

    def record(
        self, status: Literal["ok", "failed", "refused"], seconds: float, **results: Any
    ) -> Record:
        """Return the cell's record; `results` are the record's own fields."""
        results.setdefault("recipe", [step_info(step) for step in self.steps])
        return Record(
            cell=self.id,
            suite=self.suite,
            row=self.row,
            status=status,
            model=self.model,
            seed=self.seed,
            protocol=self.protocol.sha256,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=seconds,
            **results,
        )


def step_info(
    step: CellStep, *, calibration: CalibrationInfo | None = None, seconds: float | None = None
) -> StepInfo:
    """Return a step as its record has it; without a calibration where none was looked at."""
    return StepInfo(
        method=step.method,
        options=dict(step.options),
        calibration=calibration,
        seconds=seconds,
    )


def cells(
    suite: Suite,
    *,
    data_root: Path | None = None,
    limit: int | None = None,
    offline: bool = False,
) -> list[Cell]:
    """Return all cells of a checked suite, the baseline of each model first.

    Args:
        suite: The suite.
        data_root: Folder with data sets as the hub lays them out; None for the embedded ones
            (reference models) or the hub.
        limit: Items per task, in place of the protocol's.
        offline: As for `harness.model.files.identity.describe`: for a dry run.

    Raises:
        UserError: a model cannot be had, or two recipes are the same cell.
    """
    from harness.model.files.identity import describe

    protocol = suite.protocol
    if limit is not None:
        protocol = protocol.model_copy(update={"limit": limit})
    planned: list[Cell] = []
    for number, ref in enumerate(suite.models):
        try:
            model = describe(ref, offline=offline, random=suite.random)
        except UserError as error:
            raise suite.model_error(number, str(error)) from None
        data = data_identity(data_root_of(ref, data_root))
        planned += [
            Cell(suite.name, model, recipe.name, steps, seed, protocol, data)
            for recipe in suite.recipes
            if recipe.fits(model.family)
            for seed in recipe.seeds
            for steps in [resolve(recipe.steps, seed, tokens=not suite.random)]
        ]
    _refuse_twins(suite, planned)
    return planned


def _refuse_twins(suite: Suite, planned: Sequence[Cell]) -> None:
    names: dict[str, str] = {}
    for cell in planned:
        if cell.id in names:
            raise UserError(
                f"{suite.source}: {cell.name!r} and {names[cell.id]!r} are the same cell under "
                "two names; remove one."
            )
        names[cell.id] = cell.name


def resolve(steps: Sequence[Step], seed: int, *, tokens: bool = True) -> tuple[CellStep, ...]:
    """Return the steps of a recipe with every option, and with `seed` where none is pinned.

    Args:
        steps: The steps, their names and options checked.
        seed: Seed of the methods and of the calibration draws.
        tokens: True if steps look at calibration tokens; random weights have none to look at.
    """
    return tuple(_resolve(step, seed, tokens) for step in steps)


def _resolve(step: Step, seed: int, tokens: bool) -> CellStep:
    from harness.method import registry

    method = registry.build(step.method, {"seed": seed, **step.options})
    source = registry.source_sha256(type(method))
    if not tokens:
        none = CalibrationForm(ref="none", sequences=0, length=1, seed=0)
        return CellStep(step.method, method.options(), source, none)
    file = _calibration_text(step.calibration.ref)
    return CellStep(
        step.method,
        method.options(),
        source,
        _resolve_calibration(step.calibration, seed),
        hashlib.sha256(file.read_bytes()).hexdigest() if file else "",
    )


def _calibration_text(ref: str) -> Path | None:
    """The local file a calibration is drawn from; None for a corpus on the hub."""
    from harness import reference
    from harness.calibration.corpora.draw import CORPORA

    if ref not in CORPORA:
        return calibration_file(ref)
    return None if CORPORA[ref].hub_id else reference.DATA / CORPORA[ref].file


def _resolve_calibration(form: CalibrationForm, seed: int) -> CalibrationForm:
    from harness.calibration.corpora.draw import CORPORA

    corpus = CORPORA.get(form.ref)
    own = corpus.seed if corpus else 0
    gaps: dict[str, Any] = {}
    if form.seed is None:
        gaps["seed"] = own + seed
    if corpus and form.sequences is None:
        gaps["sequences"] = corpus.sequences
    if corpus and form.length is None:
        gaps["length"] = corpus.length
    return form.model_copy(update=gaps)


def _identity(cell: Cell) -> str:
    # A file is its content: where a calibration or a method's file lies must not matter.
    steps = [
        {
            "method": Path(step.method).name,
            "options": dict(step.options),
            "source": step.source,
            "calibration": {
                **step.calibration.model_dump(),
                "ref": Path(step.calibration.ref).name,
            },
            "file": step.file,
        }
        for step in cell.steps
    ]
    parts = {
        "format": FORMAT,
        "model": cell.model.sha256,
        "steps": steps,
        "seed": cell.seed,
        "protocol": cell.protocol.sha256,
        "data": cell.data,
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
