"""Verdicts on published numbers, for a terminal, as markdown, and as csv."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import unknown
from harness.intervals import REACH
from harness.judge.verdict import Verdict, Verdicts
from harness.report.tables.full_csv import text_cell
from harness.report.tables.markdown import escape
from harness.report.tables.text import MINUS, MISSING
from harness.words import told

VERDICT_FORMATS = ("terminal", "md", "csv")
"""Formats that verdicts can be printed in."""
HEADER = ("model", "row", "number", "theirs", "ours", "difference", "±", "verdict")
_RIGHT = frozenset({"theirs", "ours", "difference", "±"})
_FIELDS = (
    *("suite", "table", "model", "method", "row", "column", "metric", "unit"),
    *("relation", "printed", "corrected", "ours", "stderr", "difference", "verdict", "why"),
    "cells",
)


def verdict_table(verdicts: Verdicts, format: str, *, width: int | None = None) -> str:
    """Return verdicts as text.

    Args:
        verdicts: The verdicts on one table.
        format: One of `VERDICT_FORMATS`.
        width: Characters per line of "terminal"; None for the terminal's own.

    Raises:
        UserError: `format` does not exist.
    """
    if format not in VERDICT_FORMATS:
        raise unknown("format", format, VERDICT_FORMATS)
    if format == "csv":
        return _csv(verdicts)
    words = _in_markdown if format == "md" else told
    rows = [_cells(verdict, words) for verdict in verdicts.verdicts]
    body = _terminal(rows, width) if format == "terminal" else _markdown(rows)
    notes = "\n".join(f"{bullet}{note}" for bullet, note in _notes(verdicts, format))
    return f"{words(verdicts.summary())}.\n\n{body}\n{notes}\n"


def _in_markdown(text: str) -> str:
    return escape(told(text))


def _cells(verdict: Verdict, words: Callable[[str], str]) -> tuple[str, ...]:
    """The cells of a line: all but the reason are the paper's words, or numbers."""
    column = verdict.column
    digits = max(-int(verdict.printed.as_tuple().exponent), 0)
    exact = verdict.error == 0
    return (
        verdict.model,
        verdict.method,
        f"{column.name} ({column.unit})" if column.unit else column.name,
        _theirs(verdict),
        _number(verdict.ours, digits),
        _number(verdict.difference, digits, signed=True),
        MISSING if verdict.ours is None or exact else f"{REACH * verdict.error:.{digits}f}",
        f"{verdict.outcome} ({words(verdict.why)})" if verdict.why else verdict.outcome,
    )


def _theirs(verdict: Verdict) -> str:
    text = f"{verdict.relation} {verdict.printed}".strip()
    return text if verdict.corrected == verdict.printed else f"{text} [{verdict.corrected}]"


def _number(value: float | None, digits: int, *, signed: bool = False) -> str:
    if value is None:
        return MISSING
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def _notes(verdicts: Verdicts, format: str) -> Iterator[tuple[str, str]]:
    bullet = "- " if format == "md" else ""
    table = verdicts.table
    yield (
        bullet,
        f"Theirs: {table.title}, in {table.paper.title} ({table.paper.venue}). "
        f"Protocol: {table.protocol}.",
    )
    if table.note:
        yield bullet, table.note
    for erratum in table.errata:
        yield (
            bullet,
            f"Erratum: {erratum.row.model} {erratum.row.method}, {erratum.column}: printed "
            f"{erratum.printed}, judged by [{erratum.corrected}]. {erratum.reason}",
        )
    yield (
        bullet,
        f"±: {REACH} standard errors of ours. Reproduced: the difference is no larger than "
        "that and half a unit of the last printed digit together.",
    )


def _terminal(rows: Sequence[Sequence[str]], width: int | None) -> str:
    out = io.StringIO()
    room = width or shutil.get_terminal_size((120, 24)).columns
    console = Console(file=out, width=room, highlight=False, markup=False, color_system=None)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in HEADER:
        right = name in _RIGHT
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [HEADER, tuple("---:" if name in _RIGHT else "---" for name in HEADER), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _csv(verdicts: Verdicts) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_FIELDS)
    for verdict in verdicts.verdicts:
        column = verdict.column
        writer.writerow(
            (
                *map(_text, (verdicts.suite, verdicts.table.key, verdict.model)),
                *map(_text, (verdict.method, verdict.row, column.name, column.metric)),
                *(column.unit or "", verdict.relation),
                *(verdict.printed, verdict.corrected, _exact(verdict.ours)),
                *(
                    _exact(None if verdict.ours is None else verdict.error),
                    _exact(verdict.difference),
                ),
                *(verdict.outcome, _text(verdict.why), _text(" ".join(verdict.cells))),
            )
        )
    return out.getvalue()


def _text(text: str) -> str:
    return text_cell(told(text))


def _exact(value: float | None) -> str:
    return "" if value is None else repr(value)
