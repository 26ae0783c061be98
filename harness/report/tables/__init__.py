"""Tables as text, one format or one kind of table per file.

Imports errors, intervals, judge, records, report.board, words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import unknown

if TYPE_CHECKING:
    from harness.report.board import Leaderboard

TABLE_FORMATS = ("terminal", "md", "csv", "tex")
"""Formats that a leaderboard can be printed in."""


def render(
    board: Leaderboard, format: str, *, width: int | None = None, colour: bool | None = None
) -> str:
    """Return a leaderboard as text.

    Args:
        board: The leaderboard.
        format: One of `TABLE_FORMATS`.
        width: Characters per line of "terminal"; None for the terminal's own.
        colour: True if "terminal" may use colours; None to ask the terminal.

    Raises:
        UserError: `format` does not exist.
    """
    from harness.report.tables.visible import visible

    if format not in TABLE_FORMATS:
        raise unknown("format", format, TABLE_FORMATS)
    board = visible(board, whole=format == "csv")
    if format == "terminal":
        from harness.report.tables.terminal import terminal

        return terminal(board, width=width, colour=colour)
    if format == "md":
        from harness.report.tables.markdown import markdown

        return markdown(board)
    if format == "csv":
        from harness.report.tables.full_csv import table_csv

        return table_csv(board)
    from harness.report.tables.latex import latex

    return latex(board)
