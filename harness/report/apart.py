"""Rows that were measured on other data than the rest: their numbers are compared with none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.records.comparing import different
from harness.records.record import Record
from harness.records.rows import Entry
from harness.report.board import Column

Apart = Mapping[tuple[str, str], Mapping[str, list[str]]]
"""Names of the data that differ, by the row's id and the column's key."""


def apart(entries: Iterable[Entry], table: Sequence[Column]) -> Apart:
    """Return what data of each row are not those of the baseline.

    Args:
        entries: The rows of one model; without a baseline the first row stands for it.
        table: The columns.
    """
    having = [entry for entry in entries if entry.ok]
    base = next((entry for entry in having if entry.baseline), having[0] if having else None)
    return {entry.id: _of(entry, base, table) for entry in having if base}


def mixed(records: Sequence[Record], column: Column) -> bool:
    """Return True if the numbers of one column do not rest on the same data."""
    return bool(different(map(column.data, records)))


def _of(entry: Entry, base: Entry, table: Sequence[Column]) -> dict[str, list[str]]:
    records = [*base.ok, *entry.ok]
    names = {column.key: different(map(column.data, records)) for column in table}
    return {key: listed for key, listed in names.items() if listed}
