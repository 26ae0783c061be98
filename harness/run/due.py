"""The part of a cell that is due: the stages to run where its record does not answer it today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.measure.environment import surroundings
from harness.plan.cell import Cell
from harness.records.basis import STAGES, Stage, told
from harness.records.reading import Damaged
from harness.records.record import Record
from harness.records.store import Store

ALL: frozenset[Stage] = frozenset(STAGES)
UNSAID = "its record does not say what code and data it rests on"


@dataclass(frozen=True)
class Due:
    """A cell beside its record."""

    cell: Cell
    record: Record | None
    """None where there is none, or it is damaged."""
    stages: frozenset[Stage]
    """The stages to run; none where the record is the cell's result today."""
    why: str = ""
    """Reason why there is a record that does not do: of other code or data, or damaged."""
    elsewhere: str = ""
    """Differences between the record's machine and libraries and those of today."""

    @property
    def older(self) -> bool:
        """True where the record has numbers, which other code or data gave."""
        return bool(self.stages and self.why and self.record is not None)


def due_of(cell: Cell, store: Store, surroundings: Mapping[str, str]) -> Due:
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
        record = store.check(cell.id)
    except Damaged as error:
        return Due(cell, None, ALL, str(error))
    if record is None or record.status == "failed":
        return Due(cell, None, ALL)
    elsewhere = _elsewhere(record, surroundings)
    if record.basis is None:
        return Due(cell, record, ALL, UNSAID, elsewhere)
    changes = record.basis.changes(cell.basis)
    if record.status == "refused":
        changes = {stage: change for stage, change in changes.items() if stage == "compress"}
    stages = ALL if "compress" in changes else frozenset(changes)
    return Due(cell, record, stages, told(changes), elsewhere)


def _elsewhere(record: Record, surroundings: Mapping[str, str]) -> str:
    if record.environment is None:
        return ""
    then = record.environment.decisive
    apart = [
        f"{name} {then[name]}, now {value}"
        for name, value in surroundings.items()
        if then[name] != value
    ]
    return "; ".join(apart)


def to_run(planned: Sequence[Due], *, keep_older: bool, fresh_environment: bool) -> dict[str, Due]:
    """Return the cells to run by id; of another environment all stages are."""
    due = {}
    for one in planned:
        if fresh_environment and one.elsewhere:
            due[one.cell.id] = replace(one, stages=ALL, why=one.why or one.elsewhere)
        elif one.stages and not (keep_older and one.older):
            due[one.cell.id] = one
    return due


@dataclass(frozen=True)
class Choice:
    """The cells of a run, and when one that has a record is run again."""

    planned: Sequence[Cell]
    chosen: Sequence[Cell]
    keep_older: bool
    fresh_environment: bool

    def compared(self, store: Store) -> tuple[list[Due], dict[str, Due], dict[str, str]]:
        """Compare the cells with their records.

        Returns:
            The chosen cells beside their records; of these what is to run, by cell; and of all
            planned cells the reasons why their records are of other code or data, by cell.
        """
        here = surroundings()
        every = {cell.id: due_of(cell, store, here) for cell in self.planned}
        asked = [every[cell.id] for cell in self.chosen]
        due = to_run(asked, keep_older=self.keep_older, fresh_environment=self.fresh_environment)
        return asked, due, {one.cell.id: one.why for one in every.values() if one.older}


def reasons(due: Mapping[str, Due], planned: Sequence[Due]) -> Iterator[str]:
    """Say which cells run again and why, and which were measured elsewhere."""
    again: dict[str, list[str]] = {}
    elsewhere: dict[str, list[str]] = {}
    for one in planned:
        if one.cell.id in due:
            if due[one.cell.id].why:
                again.setdefault(due[one.cell.id].why, []).append(one.cell.name)
        elif one.elsewhere:
            elsewhere.setdefault(one.elsewhere, []).append(one.cell.name)
    for why, names in again.items():
        yield f"{_named(names)} again: {why}"
    for why, names in elsewhere.items():
        yield f"measured elsewhere: {_named(names)} ({why}); --fresh-environment runs them again"


def _named(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} cells"
