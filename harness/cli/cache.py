"""`moebench cache`: the files that spare work, shown and cleared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import say
from harness.errors import unknown

if TYPE_CHECKING:
    from harness.cache import upkeep


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("cache", epilog="Example: moebench cache --clear --older 30")(cache)


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete files, and say how many.")] = False,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Only files of this kind; repeatable."),
    ] = None,
    older: Annotated[
        float,
        typer.Option(min=0, metavar="DAYS", help="Only files that were written so long ago."),
    ] = 0.0,
) -> None:
    """Show the kinds of files in the cache folder, how many, their size and age; or clear them.

    All of them spare work and decide nothing. --clear leaves tokens, which suites may name, unless
    they are asked for by --kind, and never touches interpreters of other libraries. It refuses
    while a run or another command uses the cache.
    """
    from harness.cache import upkeep
    from harness.places import cache_folder

    for name in kind or ():
        if name not in upkeep.KINDS:
            raise unknown("kind", name, upkeep.KINDS, where="--kind")
    if clear:
        deleted = upkeep.clear(kind, older=older)
        size = sum(file.bytes for file in deleted)
        say(f"Deleted {len(deleted)} files, {_size(size)}, of {cache_folder()}.")
        return
    typer.echo(f"{cache_folder()}")
    for line in _lines(upkeep.files(kind, older=older)):
        typer.echo(line)


def _lines(files: list[upkeep.File]) -> Iterator[str]:
    """Yield one line per kind that there is, and one for all."""
    yield f"{'kind':<12} {'files':>8} {'size':>12}  written"
    for kind in sorted({file.kind for file in files}):
        own = [file for file in files if file.kind == kind]
        oldest, newest = (f"{choose(file.days for file in own):.0f}" for choose in (max, min))
        ages = f"{oldest} to {newest}" if oldest != newest else oldest
        yield f"{kind:<12} {len(own):>8} {_size(sum(f.bytes for f in own)):>12}  {ages} days ago"
    yield f"{'all':<12} {len(files):>8} {_size(sum(file.bytes for file in files)):>12}"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
