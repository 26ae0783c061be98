"""The notes of records, each distinct one once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.records.rows import entries


@dataclass(frozen=True)
class Noted:
    """Notes of a method about one model, from one or several rows that have the same."""

    model: str
    rows: tuple[str, ...]
    """Names of these rows; the first seed with numbers stands for each."""
    record: Record
    """Record of the first of these rows."""
    data: tuple[Any, ...]
    """Contents of its notes of one name, in order."""


def noted(records: Sequence[Record], protocol: Protocol, name: str) -> list[Noted]:
    """Return the notes called `name`, model by model; rows with the same data share an entry."""
    distinct: dict[tuple[str, str], Noted] = {}
    for entry in entries(records, protocol):
        for record in entry.ok[:1]:
            data = tuple(note["data"] for note in record.notes if note["name"] == name)
            if data:
                key = entry.model, json.dumps(data, sort_keys=True)
                rows = distinct[key].rows if key in distinct else ()
                first = distinct[key].record if key in distinct else record
                distinct[key] = Noted(entry.model, (*rows, entry.name), first, data)
    return list(distinct.values())


def titles(notes: Sequence[Noted]) -> list[str]:
    """Return a title for each: its model, and its first row where a model has several entries."""
    lines = []
    for model, group in groupby(notes, key=lambda note: note.model):
        alike = list(group)
        for note in alike:
            lines.append(f"{model}\n{shared(note.rows)}" if len(alike) > 1 else model)
    return lines


def shared(rows: Sequence[str]) -> str:
    """Return one name for rows that share a panel."""
    return rows[0] if len(rows) == 1 else f"{rows[0]} and {len(rows) - 1} more"
