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
    """What a method said about one model, in one or several rows."""

    model: str
    rows: tuple[str, ...]
    """Names of the rows that say the same; the first seed with numbers of each."""
    record: Record
    """Of the first of them."""
    data: tuple[Any, ...]
    """What its notes of that name hold, in order."""


def noted(records: Sequence[Record], protocol: Protocol, name: str) -> list[Noted]:
    """The notes called `name`, model by model; rows with the same data share an entry."""
    found: dict[tuple[str, str], Noted] = {}
    for entry in entries(records, protocol):
        for record in entry.ok[:1]:
            data = tuple(note["data"] for note in record.notes if note["name"] == name)
            if data:
                key = entry.model, json.dumps(data, sort_keys=True)
                rows = found[key].rows if key in found else ()
                first = found[key].record if key in found else record
                found[key] = Noted(entry.model, (*rows, entry.name), first, data)
    return list(found.values())


def titles(found: Sequence[Noted]) -> list[str]:
    """The model, and the first row where a model has several entries."""
    lines = []
    for model, group in groupby(found, key=lambda one: one.model):
        alike = list(group)
        for one in alike:
            lines.append(f"{model}\n{shared(one.rows)}" if len(alike) > 1 else model)
    return lines


def shared(rows: Sequence[str]) -> str:
    """One name for rows that share a panel."""
    return rows[0] if len(rows) == 1 else f"{rows[0]} and {len(rows) - 1} more"
