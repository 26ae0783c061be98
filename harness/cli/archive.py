"""`moebench archive`: the records of a suite in one compressed file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Results, results_of, say
from harness.errors import UserError


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("archive", epilog="Example: moebench archive quickstart --results results")(archive)


def archive(
    suite: Annotated[
        str,
        typer.Argument(metavar="SUITE", help="Name of the suite's folder in the results."),
    ],
    results: Results = Path("results"),
) -> None:
    """Put a suite's records into one compressed file, and the items into another.

    The loose files are deleted; every other verb reads the archive in their place, and a run
    goes on from them.
    """
    from harness.records.archiving import archive as put_into_archive
    from harness.records.standing import standing
    from harness.records.store import Store

    store = Store(results_of(suite, results))
    if not store.folder.is_dir():
        raise store.empty()
    with store.locked():
        count = put_into_archive(store)
    with contextlib.suppress(UserError):  # records without a plan are archived too
        for sentence in standing(store).gaps():
            say(sentence)
    say(f"Archived {count} records of {store.folder}.")
