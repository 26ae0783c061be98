"""The leaderboard: a pure function of the records, the same bytes for the same records."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from harness.records.protocol import Protocol
from harness.records.record import Record, TaskResult
from harness.records.rows import Entry, entries, sentence
from harness.records.standing import Standing
from harness.report.apart import Apart, apart, mixed
from harness.report.board import Column, Leaderboard, Row, Value
from harness.report.columns import AVERAGE, DELTA, KEPT, accuracy, columns
from harness.report.footnotes import footnotes, guessing
from harness.report.origins import origin_notes
from harness.report.tables.text import printed

LEVEL = "max(chance, majority)"
"""Name of the row of guessing."""


def leaderboard(
    records: Sequence[Record],
    protocol: Protocol,
    order: Sequence[str] | None = None,
    standing: Standing | None = None,
) -> Leaderboard:
    """Return the leaderboard: one row per model and recipe, its seeds averaged.

    Args:
        records: Records of one protocol, in any order, whatever their status.
        protocol: The protocol that the records were made under.
        order: Row names as the suite lists them; the others follow by name.
        standing: The plan that the records belong to; None where there is none.

    Raises:
        UserError: a record of another protocol, or two records for one row and seed.
    """
    grouped = entries(records, protocol, order or ())
    table = columns(records, protocol)
    rows: list[Row] = []
    different: dict[tuple[str, str], Mapping[str, list[str]]] = {}
    for _, group in groupby(grouped, key=lambda entry: entry.model):
        section = tuple(group)
        different |= apart(section, table)
        rows += _section(section, table, protocol, different)
    notes = (*footnotes(grouped, protocol), *origin_notes(grouped, different, standing))
    return Leaderboard(_caption(records, protocol), table, tuple(rows), notes)


def _caption(records: Iterable[Record], protocol: Protocol) -> str:
    suites = ", ".join(sorted({record.suite for record in records})) or "no records"
    shots = "tasks' own shots" if protocol.shots is None else f"{protocol.shots}-shot"
    return f"{suites}: protocol {protocol.sha256[:12]}, {shots}, {protocol.dtype}, accuracy in %"


def _section(
    group: Sequence[Entry], table: Sequence[Column], protocol: Protocol, different: Apart
) -> Iterator[Row]:
    rows = [
        replace(_row(entry, table), apart=frozenset(different.get(entry.id, ()))) for entry in group
    ]
    base = next((row for row in rows if row.kind == "baseline"), None)
    if base:
        rows = [row if row is base else _against(row, base, table) for row in rows]
    levels = _levels(group, protocol, {key for row in rows for key in row.apart})
    if levels:
        yield Row(group[0].model, LEVEL, "level", values=levels)
    best = _best(rows, table)
    for row in rows:
        yield replace(row, best=frozenset(key for key, ids in best.items() if row.id in ids))


def _levels(
    group: Sequence[Entry], protocol: Protocol, different: Collection[str]
) -> dict[str, Value]:
    """Accuracies of guessing, the same for every row of a model where the items are the same."""
    results: dict[str, TaskResult] = {}
    for record in (record for entry in group for record in entry.ok):
        results = {**record.tasks, **results}
    guesses = {task: guessing(results[task]) for task in protocol.tasks if task in results}
    levels = {task: level for task, level in guesses.items() if level is not None}
    values = {accuracy(task): Value(level) for task, level in levels.items()}
    if protocol.average and all(task in levels for task in protocol.average):
        values[AVERAGE] = Value(statistics.fmean(levels[task] for task in protocol.average))
    return {key: value for key, value in values.items() if key not in different}


def _row(entry: Entry, table: Sequence[Column]) -> Row:
    values = {column.key: _value(entry.ok, column) for column in table}
    reasons = dict.fromkeys(sentence(r) for r in entry.records if r.status != "ok")
    return Row(
        entry.model,
        entry.name,
        "baseline" if entry.baseline else "method",
        entry.status,
        " ".join(reasons),
        entry.records[0].suite,
        entry.methods,
        tuple(record.seed for record in entry.records),
        tuple(record.cell for record in entry.records),
        {key: value for key, value in values.items() if value is not None},
    )


def _value(records: Sequence[Record], column: Column) -> Value | None:
    numbers = [number for r in records if (number := column.read(r)) is not None]
    if not numbers:
        return None
    if len(numbers) > 1:
        sd = None if mixed(records, column) else statistics.stdev(numbers)
        return Value(statistics.fmean(numbers), sd, len(numbers))
    bounds = [(column.low(r), column.high(r)) for r in records if column.read(r) is not None]
    return Value(numbers[0], None, 1, *bounds[0])


def _against(row: Row, base: Row, table: Sequence[Column]) -> Row:
    """The row with its differences to the baseline, which counts as exact."""
    deltas = {
        column.key: row.values[column.key].mean - base.values[column.key].mean
        for column in table
        if column.direction != "none"
        and column.key not in row.apart
        and column.key in row.values
        and column.key in base.values
    }
    values = dict(row.values)
    if AVERAGE in deltas:
        mine, whole = row.values[AVERAGE], base.values[AVERAGE].mean
        values[DELTA] = Value(deltas[AVERAGE], mine.sd, mine.n)
        if whole > 0:
            sd = None if mine.sd is None else mine.sd / whole
            values[KEPT] = Value(mine.mean / whole, sd, mine.n)
    return replace(row, values=values, deltas=deltas)


def _best(rows: Sequence[Row], table: Sequence[Column]) -> Mapping[str, set[tuple[str, str]]]:
    """Ids of the best of at least two rows, by column key; equal as printed is a tie.

    A column in which rows differ in data has no best.
    """
    candidates = [row for row in rows if row.kind == "method" and row.status == "ok"]
    best: dict[str, set[tuple[str, str]]] = {}
    for column in table:
        having = [row for row in candidates if column.key in row.values]
        if column.direction == "none" or not column.shown or len(having) < 2:
            continue
        if any(column.key in row.apart for row in rows):
            continue
        means = {row.id: row.values[column.key].mean for row in having}
        top = (max if column.direction == "higher" else min)(means.values())
        text = printed(top, column)
        best[column.key] = {key for key, mean in means.items() if printed(mean, column) == text}
    return best
