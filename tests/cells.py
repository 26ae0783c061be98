"""Cells without a model behind them."""

from __future__ import annotations

from collections.abc import Callable

from harness.plan.cell import Cell, CellStep
from harness.plan.forms import CalibrationForm
from harness.records.protocol import Protocol
from harness.records.record import ModelInfo

MakeCell = Callable[..., Cell]


def make_cell(
    row: str = "eep 4",
    *,
    options: dict[str, object] | None = None,
    code: tuple[tuple[str, str], ...] = (("methods.experts.eep", "EEP"),),
    own: str = "",
    seed: int = 0,
    model: str = "m" * 64,
    protocol: Protocol | None = None,
    calibration: CalibrationForm | None = None,
    method: str = "eep",
    file: str = "",
) -> Cell:
    form = calibration or CalibrationForm(sequences=8, length=64, seed=seed)
    given = {"keep": 4, "seed": seed} if options is None else options
    return Cell(
        suite="tiny",
        model=ModelInfo(ref="acme/tiny", family="mixtral", sha256=model, label="tiny"),
        row=row,
        steps=(CellStep(method, given, code, own, form, file),),
        seed=seed,
        protocol=protocol or Protocol(tasks=("boolq",), average=("boolq",)),
    )
