"""The leaderboard as csv: one line per row, every number at full precision and unscaled."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from harness.report.board import Column, Leaderboard, Row
from harness.words import shown

IDENTITY = ("model", "row", "kind", "status", "reason", "suite", "methods", "seeds", "cells")
_FORMULA = re.compile(r"'*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""Beginning of a cell that a spreadsheet would work out, or that would look like one guarded."""


def table_csv(board: Leaderboard) -> str:
    """Return a leaderboard as csv: fractions in 0..1, bytes, seconds; empty where missing.

    After each result stand its standard deviation and n over seeds, and its difference to the
    baseline; of every other number only the mean over seeds is given. Lists are joined by spaces.
    """
    keys = {column.key for column in board.columns}
    lines = [
        {**_identity(row), **dict(_numbers(row, board.columns, keys))}
        for row in board.rows
        if row.kind != "level"
    ]
    names = (*IDENTITY, *(name for c in board.columns for name in _names(c, keys)))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n", restval="")
    writer.writerow({name: text_cell(shown(name)) for name in names})
    writer.writerows(lines)
    return out.getvalue()


def text_cell(text: str) -> str:
    """Return a visible text as a cell that no spreadsheet works out.

    An apostrophe stands before a formula. Numbers are no text: they stay what they are.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def _identity(row: Row) -> dict[str, str]:
    seeds = " ".join(map(str, row.seeds))
    texts = (row.model, row.name, row.kind, row.status, row.reason, row.suite)
    cells = (*texts, " + ".join(row.methods), seeds, " ".join(row.cells))
    return dict(zip(IDENTITY, map(text_cell, cells), strict=True))


def _names(column: Column, keys: set[str]) -> Iterator[str]:
    yield column.key
    if _has_spread(column):
        yield from (f"{column.key}.sd", f"{column.key}.n")
    if _has_delta(column, keys):
        yield f"{column.key}.delta"


def _has_spread(column: Column) -> bool:
    return column.shown or column.direction != "none"


def _has_delta(column: Column, keys: set[str]) -> bool:
    """False for a column that is itself a comparison, or whose delta has its own column."""
    derived = column.key.startswith(("average.", "speed."))
    return column.direction != "none" and not derived and f"{column.key}.delta" not in keys


def _numbers(row: Row, columns: tuple[Column, ...], keys: set[str]) -> Iterator[tuple[str, str]]:
    for column in columns:
        value = row.values.get(column.key)
        if value is None:
            continue
        yield column.key, _exact(value.mean)
        if _has_spread(column):
            yield f"{column.key}.n", str(value.n)
            if value.sd is not None:
                yield f"{column.key}.sd", _exact(value.sd)
        if _has_delta(column, keys) and column.key in row.deltas:
            yield f"{column.key}.delta", _exact(row.deltas[column.key])


def _exact(number: float) -> str:
    return repr(number).removesuffix(".0")
