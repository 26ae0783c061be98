"""The standing of a run: what its cells have come to so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.records.basis import some
from harness.records.reading import Damaged
from harness.records.record import Record
from harness.records.store import Plan, PlannedCell, Store


@dataclass(frozen=True)
class Standing:
    """The records of a plan, and what stands between them and the whole of it."""

    plan: Plan
    records: tuple[Record, ...] = ()
    """Records of the cells that have one, in the plan's order, under the present names of rows."""
    missing: tuple[PlannedCell, ...] = ()
    """Cells without a record."""
    damaged: tuple[PlannedCell, ...] = ()
    """Cells whose record is not what was written; it does not count."""
    damage: tuple[str, ...] = ()
    """Sentences on the damage, each once."""
    older: Mapping[str, str] = field(default_factory=dict)
    """Reasons why records are not of today's code and data, by cell."""

    def gaps(self) -> list[str]:
        """Return the sentences on cells without a record, and on damaged ones."""
        sentences = []
        if self.missing:
            sentences.append(f"{self._count(self.missing)} no record yet.")
        if self.damaged:
            sentences.append(f"{self._count(self.damaged)} a damaged record, which does not count.")
        return [*sentences, *self.damage]

    def _count(self, cells: Sequence[PlannedCell]) -> str:
        rows = some(list(dict.fromkeys(cell.row for cell in cells)))
        verb = "has" if len(cells) == 1 else "have"
        return f"{len(cells)} of {len(self.plan.cells)} cells ({rows}) {verb}"


def standing(store: Store) -> Standing:
    """Return what has come of the cells that ran last in a results folder.

    Raises:
        UserError: there was no run, its plan is damaged, or a record is of a newer moebench.
    """
    plan = store.plan()
    records, missing, damaged = [], [], []
    damage: dict[str, None] = {}
    for cell in plan.cells:
        try:
            record = store.read(cell.id)
        except Damaged as error:
            damaged.append(cell)
            damage[str(error)] = None
            continue
        if record is None:
            missing.append(cell)
        else:
            records.append(record.model_copy(update={"row": cell.row}))
    if missing:  # which may be what the archive lost
        damage |= dict.fromkeys(map(str, store.damage()))
    older = {cell.id: cell.older for cell in plan.cells if cell.older}
    return Standing(plan, tuple(records), tuple(missing), tuple(damaged), tuple(damage), older)
