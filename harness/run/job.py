"""A job: a cell and where a worker carries it out; and the outcome that the worker gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.plan.cell import Cell
from harness.records.basis import STAGES, Stage
from harness.records.record import Item, Record

Say = Callable[[str], None]
"""A function that is told what is being done, in words that read on after "while"."""


@dataclass(frozen=True)
class Job:
    """A cell, and the places where a worker carries it out."""

    cell: Cell
    data_root: Path | None
    """Folder with data sets as the hub lays them out; None for the hub."""
    folder: Path
    """Empty folder for the artifact and the log."""
    cache: Path
    """Folder of statistics and calibration tokens, shared by all runs."""
    earlier: Outcome | None = None
    """The outcome whose later stages still hold, where only some stages are to run again."""
    due: frozenset[Stage] = frozenset(STAGES)
    """The stages to run; `compress` always does, since the others need the model."""

    @property
    def artifact(self) -> Path:
        """The folder in which the worker leaves the compressed model."""
        return self.folder / "artifact"

    @property
    def log(self) -> Path:
        """The file of what the worker and its libraries print."""
        return self.folder / "log.txt"


@dataclass(frozen=True)
class Outcome:
    """The record of a cell, and the outcome of every item that it was evaluated on."""

    record: Record
    items: tuple[Item, ...] = ()
