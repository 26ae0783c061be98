"""`moebench leaderboard`: the table of a suite that was run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Results, SuiteName, say


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "leaderboard", epilog="Example: moebench leaderboard quickstart --format md --out table.md"
    )(leaderboard)


def leaderboard(
    suite: SuiteName,
    results: Results = Path("results"),
    format_: Annotated[
        str, typer.Option("--format", metavar="terminal|md|csv|tex", help="How to print it.")
    ] = "terminal",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there instead of stdout.")
    ] = None,
) -> None:
    """Print the leaderboard of the cells that ran last.

    It is worked out from the records in the results folder; nothing is run.
    """
    from harness.records.store import Store, no_space
    from harness.report.publish import board_of
    from harness.report.tables import render

    text = render(board_of(Store(results / Path(suite).stem)), format_)
    if out is None:
        typer.echo(text, nl=not text.endswith("\n"))
        return
    with no_space(out):
        out.write_text(text, encoding="utf-8")
    say(f"Wrote {out}.")
