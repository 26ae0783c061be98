"""Leaderboards and plots: pure functions of the records.

Imports errors, judge, report.board.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from harness.errors import unknown

if TYPE_CHECKING:
    from harness.report.board import Leaderboard

Format = Literal["terminal", "md", "csv", "tex"]
FORMATS: tuple[str, ...] = get_args(Format)


def render(
    board: Leaderboard, format: str, *, width: int | None = None, colour: bool | None = None
) -> str:
    """The leaderboard as text.

    Args:
        board: What to print.
        format: One of `FORMATS`.
        width: Characters per line of "terminal"; None for the terminal's own.
        colour: Whether "terminal" uses colours; None to ask the terminal.

    Raises:
        UserError: `format` does not exist.
    """
    if format == "terminal":
        from harness.report.tables.terminal import terminal

        return terminal(board, width=width, colour=colour)
    if format == "md":
        from harness.report.tables.markdown import markdown

        return markdown(board)
    if format == "csv":
        from harness.report.tables.full_csv import table_csv

        return table_csv(board)
    if format == "tex":
        from harness.report.tables.latex import latex

        return latex(board)
    raise unknown("format", format, FORMATS)
