"""`moebench verdict`: a paper's numbers against ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Results, SuiteName, say


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("verdict", epilog="Example: moebench verdict moe-i2-table1 --format md")(verdict)


def verdict(
    suite: SuiteName,
    results: Results = Path("results"),
    format_: Annotated[
        str, typer.Option("--format", metavar="terminal|md|csv", help="How to print it.")
    ] = "terminal",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there instead of stdout.")
    ] = None,
) -> None:
    """Say of every number of the paper's table whether ours reproduces it, or why not.

    The suite names the table. Nothing is run: it is worked out from the records.
    """
    from harness.judge.verdict import verdicts
    from harness.records.store import Store, no_space
    from harness.report.tables.verdict import verdict_table

    text = verdict_table(verdicts(Store(results / Path(suite).stem)), format_)
    if out is None:
        typer.echo(text, nl=False)
        return
    with no_space(out):
        out.write_text(text, encoding="utf-8")
    say(f"Wrote {out}.")
