"""`moebench run`: run what is missing of a suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import DataRoot, Results, SuiteName, say
from harness.cli.process.endings import end

if TYPE_CHECKING:
    from harness.plan.suite import Suite

KeepOlder = Annotated[
    bool,
    typer.Option(
        "--keep-older",
        help="Keep records of other code or data instead of running their cells again.",
    ),
]
FreshEnvironment = Annotated[
    bool,
    typer.Option(
        "--fresh-environment",
        help="Run cells again whose records are of other libraries or another processor.",
    ),
]


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("run", epilog="Example: moebench run quickstart --only eep")(run)


def run(
    suite: SuiteName,
    results: Results = Path("results"),
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Model in place of the suite's; repeatable. 'reference': all reference models.",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Run only the cells whose row, model or id fits."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="The first N items of each task, and windows of each text; own cell ids.",
        ),
    ] = None,
    data_root: DataRoot = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what each cell would do; run nothing."),
    ] = False,
    keep_artifacts: Annotated[
        bool, typer.Option("--keep-artifacts", help="Leave the compressed models in the results.")
    ] = False,
    keep_older: KeepOlder = False,
    fresh_environment: FreshEnvironment = False,
) -> None:
    """Run every cell of a suite that has no result yet, then write its leaderboard and plots.

    Finished cells are kept, however the run ended; cells that failed are run again, and so are
    those whose code or data have changed since: it says which and why. Exit code 1 says that a cell
    failed. A refused cell is a result. On other models than the suite's the results are in a folder
    of their own, SUITE@MODEL.
    """
    from harness.plan.suite import Suite

    loaded = Suite.load(suite)
    if models:
        loaded = loaded.on(models)
    asked: dict[str, Any] = {"only": only, "limit": limit, "data_root": data_root}
    if dry_run:
        from harness.run.preview import preview

        for line in preview(loaded, results, **asked):
            typer.echo(line)
        return
    asked |= {"keep_older": keep_older, "fresh_environment": fresh_environment}
    _run(loaded, results, keep_artifacts=keep_artifacts, **asked)


def _run(loaded: Suite, results: Path, **options: Any) -> None:
    """Run the suite and print its leaderboard."""
    from harness.report.tables import render
    from harness.run.runner import run as run_suite

    try:
        summary = run_suite(loaded, results, **options)
    except KeyboardInterrupt as error:
        kept = "Finished cells are kept; the same command goes on from here."
        raise typer.Exit(end(error, kept)) from None
    if summary.board is not None:
        typer.echo(render(summary.board, "terminal"))
    say(summary.sentence())
    if summary.failed:
        raise typer.Exit(1)
