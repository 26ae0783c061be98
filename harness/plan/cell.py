"""A cell: one model, one recipe, one seed, under one protocol.

Its id is a hash of all that it asks for, and of nothing else: where the data lies, how the suite is
called and in which order keys are written change no id. Its basis is the code and the data that
answer it. A record is a cell's result where both are the record's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness.plan.forms import CalibrationForm
from harness.records.basis import Basis
from harness.records.protocol import Protocol
from harness.records.record import CalibrationInfo, ModelInfo, Record, StepInfo
from harness.records.store import PlannedCell


@dataclass(frozen=True)
class CellStep:
    """One step with nothing left open."""

    method: str
    options: Mapping[str, Any]
    """Every option of the method, defaults and seed included."""
    code: tuple[tuple[str, str], ...]
    """The definitions that the method's code begins with: modules and names."""
    own: str
    """Digest of the method's own code where it is given as a file; else empty."""
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
    basis: Basis = field(default_factory=Basis)
    """The code that computes the cell and the data that it is computed from, as they are today."""
    id: str = field(init=False)
    """First 16 hexadecimal digits of the hash of all that the cell asks for."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _identity(self))

    @property
    def name(self) -> str:
        """Model, recipe and seed in one line, for progress and errors."""
        return f"{self.model.ref}  {self.row}  seed {self.seed}"

    def planned(self, older: str = "") -> PlannedCell:
        """Return the cell as the plan in the results folder has it.

        Args:
            older: Reason why the record that there is does not answer the cell today.
        """
        return PlannedCell(
            id=self.id, model=self.model.ref, row=self.row, seed=self.seed, older=older
        )

    def record(
        self, status: Literal["ok", "failed", "refused"], seconds: float, **results: Any
    ) -> Record:
        """Return the cell's record; `results` are the record's own fields."""
        results.setdefault("recipe", [step_info(step) for step in self.steps])
        results.setdefault("basis", self.basis)
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

    def on(self, basis: Basis) -> Cell:
        """Return the cell with its basis."""
        return replace(self, basis=basis)


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


def _identity(cell: Cell) -> str:
    # A file is its content: where a calibration or a method's file lies must not matter.
    steps = [
        {
            "method": Path(step.method).name,
            "options": dict(step.options),
            "own": step.own,
            "calibration": {
                **step.calibration.model_dump(),
                "ref": Path(step.calibration.ref).name,
            },
            "file": step.file,
        }
        for step in cell.steps
    ]
    parts = {
        "model": cell.model.sha256,
        "steps": steps,
        "seed": cell.seed,
        "protocol": cell.protocol.sha256,
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
