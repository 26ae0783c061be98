"""`moebench leaderboard`: the table of a suite that was run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import (
    Out,
    Results,
    SuiteName,
    check_format,
    format_option,
    put_out,
    results_of,
    say,
)


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "leaderboard", epilog="Example: moebench leaderboard quickstart --format md --out table.md"
    )(leaderboard)


def leaderboard(
    suite: SuiteName,
    results: Results = Path("results"),
    format_: Annotated[str, format_option("terminal", "md", "csv", "tex")] = "terminal",
    out: Out = None,
) -> None:
    """Print the leaderboard of the cells that ran last.

    It is worked out from the records in the results folder; nothing is run.
    """
    from harness.records.standing import standing
    from harness.records.store import Store
    from harness.report.publish import board_of
    from harness.report.tables import render

    check_format(format_, "terminal", "md", "csv", "tex")
    store = Store(results_of(suite, results))
    if format_ == "csv":  # which has no footnotes
        for sentence in standing(store).gaps():
            say(sentence)
    put_out(render(board_of(store), format_), out)
