"""`moebench gate`: a suite's results against those of an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Results, SuiteName, results_of

REGRESSED = 1


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("gate", epilog="Example: moebench gate regression --baseline results/regression")(
        gate
    )


def gate(
    suite: SuiteName,
    baseline: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the suite's earlier results.")
    ],
    results: Results = Path("results"),
    margin: Annotated[
        float,
        typer.Option(
            min=0, metavar="POINTS", help="Largest loss of accuracy that passes, in points."
        ),
    ] = 3.0,
    perplexity: Annotated[
        float,
        typer.Option(
            min=0, metavar="PERCENT", help="Largest rise of perplexity that passes, in percent."
        ),
    ] = 5.0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 also if a row's outcome cannot be told.")
    ] = False,
) -> None:
    """Compare the results of a suite with earlier ones, item by item; nothing is run.

    Exit code 0: no row regressed. 1: one did, or with --strict one cannot be told. 2: the two
    cannot be compared.
    """
    from harness.judge.gate import Margins, code_between, verdict_of
    from harness.judge.gate import gate as judge
    from harness.records.store import Store
    from harness.report.tables.gate import code_line, gate_table

    margins = Margins(accuracy=margin / 100, perplexity=perplexity / 100)
    new, old = Store(results_of(suite, results)), Store(baseline)
    rows = judge(new, old, margins)
    typer.echo(gate_table(rows, margins), nl=False)
    typer.echo(code_line(code_between(new, old)), nl=False)
    outcome = verdict_of(rows)
    if outcome == "regressed" or (strict and outcome == "cannot tell"):
        raise typer.Exit(REGRESSED)
