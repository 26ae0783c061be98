"""`moebench verdict`: a paper's numbers against ours."""

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
    app.command("verdict", epilog="Example: moebench verdict moe-i2-table1 --format md")(verdict)


def verdict(
    suite: SuiteName,
    results: Results = Path("results"),
    format_: Annotated[str, format_option("terminal", "md", "csv")] = "terminal",
    out: Out = None,
) -> None:
    """Say of every number of the paper's table whether ours reproduces it, or why not.

    The suite names the table. Nothing is run: it is worked out from the records.
    """
    from harness.judge.verdict import verdicts
    from harness.records.standing import standing
    from harness.records.store import Store
    from harness.report.tables.verdict import verdict_table

    check_format(format_, "terminal", "md", "csv")
    store = Store(results_of(suite, results))
    for sentence in standing(store).damage:
        say(sentence)
    put_out(verdict_table(verdicts(store), format_), out)
