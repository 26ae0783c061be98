"""What a worker process is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.plan.cell import Cell
from harness.records.record import Item, Record

Say = Callable[[str], None]
"""Told what is being done, as it reads after "while"."""


@dataclass(frozen=True)
class Job:
    """What a worker is given."""

    cell: Cell
    data_root: Path | None
    """None for the hub."""
    folder: Path
    """Empty, for the artifact and the log."""
    cache: Path
    """Of statistics, shared by all runs."""
    streaming: bool = False
    """Hold only a few blocks in memory while compressing; the result is the same to the bit."""

    @property
    def artifact(self) -> Path:
        """Where the worker leaves the compressed model."""
        return self.folder / "artifact"

    @property
    def log(self) -> Path:
        """What the worker and its libraries print."""
        return self.folder / "log.txt"


@dataclass(frozen=True)
class Outcome:
    """What a worker gives back."""

    record: Record
    items: tuple[Item, ...] = ()
