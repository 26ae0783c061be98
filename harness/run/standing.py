"""The standing of a cell: if its record answers it today, and which stages are to run if not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.plan.cell import Cell
from harness.records.basis import STAGES, Stage, told
from harness.records.reading import Damaged
from harness.records.record import Record
from harness.records.store import Store

ALL: frozenset[Stage] = frozenset(STAGES)
UNSAID = "its record does not say what code and data it rests on"


@dataclass(frozen=True)
class Standing:
    """A cell beside its record."""

    cell: Cell
    record: Record | None
    """None where there is none, or it is damaged."""
    due: frozenset[Stage]
    """The stages to run; none where the record is the cell's result today."""
    why: str = ""
    """Reason why there is a record that does not do: of other code or data, or damaged."""
    elsewhere: str = ""
    """Differences between the record's machine and libraries and those of today."""

    @property
    def older(self) -> bool:
        """True where the record has numbers, which other code or data gave."""
        return bool(self.due and self.why and self.record is not None)


def standing(cell: Cell, store: Store, surroundings: Mapping[str, str]) -> Standing:
    """Compare a cell with its record.

    A refusal is a result; a failure is none. Of a refusal the stages after `compress` never were.

    Args:
        cell: The cell, with today's basis.
        store: The results folder.
        surroundings: As `harness.measure.environment.surroundings` gives them.

    Raises:
        UserError: the record is of a newer moebench.
    """
    try:
        record = store.read(cell.id)
    except Damaged as error:
        return Standing(cell, None, ALL, str(error))
    if record is None or record.status == "failed":
        return Standing(cell, None, ALL)
    elsewhere = _elsewhere(record, surroundings)
    if record.basis is None:
        return Standing(cell, record, ALL, UNSAID, elsewhere)
    changes = record.basis.changes(cell.basis)
    if record.status == "refused":
        changes = {stage: change for stage, change in changes.items() if stage == "compress"}
    due = ALL if "compress" in changes else frozenset(changes)
    return Standing(cell, record, due, told(changes), elsewhere)


def _elsewhere(record: Record, surroundings: Mapping[str, str]) -> str:
    if record.environment is None:
        return ""
    then = {**record.environment.versions, "processor": record.environment.processor}
    apart = [
        f"{name} {then.get(name, 'none')}, now {value}"
        for name, value in surroundings.items()
        if then.get(name, "none") != value
    ]
    return "; ".join(apart)
