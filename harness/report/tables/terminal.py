"""The leaderboard for a terminal: as many columns per table as fit, and the rest below."""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.board import Column, Leaderboard, Row
from harness.report.tables.text import blocks, by_model, header, label, sources, values

NARROWEST = 40
"""Characters per line that a narrower terminal gets, too."""
BOUND = "\N{NO-BREAK SPACE}"
STAR = "*"
"""Mark of the best where there is no colour."""
WORD = 24
"""Columns of the widest word of a header; a longer one is broken."""


def terminal(board: Leaderboard, *, width: int | None = None, colour: bool | None = None) -> str:
    """Return a leaderboard as tables that never cut a number.

    The best of each model is bold green, or has a star.

    Args:
        board: The leaderboard.
        width: Characters per line; None for the terminal's own.
        colour: True if colours may be used; None to ask the terminal.
    """
    if colour is None:
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    if width is None:
        width = shutil.get_terminal_size((100, 24)).columns
    width = max(width, NARROWEST)
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        legacy_windows=False,
    )
    best = "bold green" if colour else STAR
    console.print(Text(f"{board.caption}; {best}: best compressed row of its model"))
    names = _name_width(board, width)
    # Beside each column stand two spaces, and one more for the star.
    for columns in blocks(board, width - names - 3, lambda c: _column_width(board, c) + 3):
        console.print(_table(board, columns, names, colour))
    console.print(_sources(board, width))
    for number, note in enumerate(board.footnotes, start=1):
        console.print(Text(f"[{number}] {note.text}"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _name_width(board: Leaderboard, width: int) -> int:
    """Width of the column of names; names longer than a third of the terminal are folded."""
    longest = max((cell_len(label(board, row)) for row in board.rows), default=6)
    return min(longest + 2, max(width // 3, 16))


def _column_width(board: Leaderboard, column: Column) -> int:
    """Width of the widest number or word of the header, which wraps as a number may not."""
    numbers = (cell_len(values(row, [column])[0]) for row in board.rows)
    words = _bound(header(board, column)).split(" ")
    return max(*numbers, *(min(cell_len(word), WORD) for word in words), 0)


def _bound(title: str) -> str:
    """The title with its arrow bound to the word before."""
    return title.replace(" ↑", f"{BOUND}↑").replace(" ↓", f"{BOUND}↓")


def _title(board: Leaderboard, column: Column, width: int) -> Text:
    # rich would break at a no-break space too.
    lines = textwrap.wrap(_bound(header(board, column)), width)
    return Text("\n".join(lines).replace(BOUND, " "))


def _table(board: Leaderboard, columns: Sequence[Column], names: int, colour: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", width=names, overflow="fold")
    for column in columns:
        # One more than the widest number, for the star.
        width = _column_width(board, column) + 1
        title = _title(board, column, width)
        table.add_column(title, justify="right", width=width, vertical="bottom")
    for model, rows in by_model(board):
        table.add_row(Text(model, style="bold" if colour else ""))
        for row in rows:
            if row.kind != "level" or columns[0].group == "accuracy":
                table.add_row(Text(f"  {label(board, row)}"), *_cells(row, columns, colour))
        table.add_section()
    return table


def _cells(row: Row, columns: Sequence[Column], colour: bool) -> list[Text]:
    cells = []
    for column, text in zip(columns, values(row, columns), strict=True):
        best = column.key in row.best
        star = "" if colour else STAR if best else " "
        cells.append(Text(f"{text}{star}", style="bold green" if best and colour else ""))
    return cells


def _sources(board: Leaderboard, width: int) -> Table:
    """The ids of the records, row by row."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", width=_name_width(board, width), overflow="fold")
    table.add_column("records")
    ids = sources(board)
    for model, rows in by_model(board):
        table.add_row(Text(model))
        for row in rows:
            if row.kind != "level":
                table.add_row(Text(f"  {row.name}"), Text(" ".join(ids[row.id])))
    return table
