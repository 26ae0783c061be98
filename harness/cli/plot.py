"""`moebench plot`: the figures of a suite that was run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Results, SuiteName, results_of, say, tell


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("plot", epilog="Example: moebench plot quickstart --out figures")(plot)


def plot(
    suite: SuiteName,
    results: Results = Path("results"),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for the figures; without it, the suite's results."
        ),
    ] = None,
) -> None:
    """Draw accuracy against size, and the methods' notes, as PNG and SVG; print the files."""
    from harness.disk.writing import no_space
    from harness.records.reading import Damaged
    from harness.records.standing import standing
    from harness.records.store import Store
    from harness.report.figures.canvas import draw
    from harness.report.figures.paper import judged

    store = Store(results_of(suite, results))
    run = standing(store)
    for sentence in run.gaps():
        say(sentence)
    try:
        verdicts = judged(store)
    except Damaged as error:  # the other figures need no suite
        say(str(error))
        verdicts = None
    folder = out or store.folder
    with no_space(folder):
        if out is None:
            store.check_links()
        for path in draw(run.records, run.plan.protocol, folder, verdicts):
            tell(str(path))
