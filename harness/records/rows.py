"""Records grouped as a leaderboard's rows: by model, then by recipe, seeds together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import UserError
from harness.records.protocol import Protocol
from harness.records.record import Record

Status = Literal["ok", "partial", "failed", "refused"]
"""Status of a row; `partial` when some of its seeds are ok and others are not."""


@dataclass(frozen=True)
class Entry:
    """All seeds of one recipe on one model, sorted by seed."""

    model: str
    """Label, made unique when two models share one."""
    name: str
    records: tuple[Record, ...]

    @property
    def id(self) -> tuple[str, str]:
        """Model and name: unique on a leaderboard."""
        return self.model, self.name

    @property
    def baseline(self) -> bool:
        """True for the uncompressed model."""
        return not self.records[0].recipe

    @property
    def ok(self) -> tuple[Record, ...]:
        """The records that carry numbers."""
        return tuple(record for record in self.records if record.status == "ok")

    @property
    def status(self) -> Status:
        """Status of all seeds together; `partial` when only some are ok."""
        statuses = {record.status for record in self.records}
        if len(statuses) > 1 and "ok" in statuses:
            return "partial"
        return "ok" if "ok" in statuses else "failed" if "failed" in statuses else "refused"

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the recipe's methods, in order."""
        return tuple(step.method for step in self.records[0].recipe)


def sentence(record: Record) -> str:
    """Return the reason why a record is not ok: the refusal, or the traceback's last line."""
    lines = [line.strip() for line in (record.reason or "no reason given").splitlines()]
    lines = [line for line in lines if line] or ["no reason given"]
    return lines[-1] if record.status == "failed" else " ".join(lines)


def entries(
    records: Sequence[Record], protocol: Protocol, order: Sequence[str] = ()
) -> tuple[Entry, ...]:
    """Group and sort records: by model, baseline first, then by `order`, then by name.

    Args:
        records: In any order; a record given twice counts once.
        protocol: The one protocol that all of them must have been made under.
        order: Row names as the suite lists them.

    Raises:
        UserError: a record of another protocol, or two records for one row and seed.
    """
    labels = _labels(records)
    groups: dict[tuple[str, str], dict[int, Record]] = defaultdict(dict)
    for record in records:
        _check_protocol(record, protocol)
        seeds = groups[labels[record.model.sha256, record.model.label], record.row]
        if seeds.setdefault(record.seed, record) != record:
            raise _twice(seeds[record.seed], record)
    rows = [
        Entry(model, name, tuple(seeds[seed] for seed in sorted(seeds)))
        for (model, name), seeds in groups.items()
    ]
    rank = {name: place for place, name in enumerate(order)}
    return tuple(
        sorted(rows, key=lambda e: (e.model, not e.baseline, rank.get(e.name, len(rank)), e.name))
    )


def _labels(records: Sequence[Record]) -> dict[tuple[str, str], str]:
    models = {(record.model.sha256, record.model.label) for record in records}
    labels = [label for _, label in models]
    return {
        (sha256, label): label if labels.count(label) == 1 else f"{label} ({sha256[:8]})"
        for sha256, label in models
    }


def _check_protocol(record: Record, protocol: Protocol) -> None:
    if record.protocol != protocol.sha256:
        raise UserError(
            f"record {record.cell} ({record.row}) was made under protocol {record.protocol[:12]}, "
            f"not under this leaderboard's {protocol.sha256[:12]}: run its cell again, or make "
            "the leaderboard with the suite that the record belongs to."
        )


def _twice(first: Record, second: Record) -> UserError:
    cells = sorted([first.cell, second.cell])
    return UserError(
        f"two records claim row {first.row!r} of {first.model.label}, seed {first.seed}: cells "
        f"{cells[0]} and {cells[1]}; give the rows different names, or keep only one record."
    )
