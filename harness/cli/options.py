"""Arguments that several verbs share, and how they speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.errors import UserError, nearest

DTYPES: tuple[Literal["float32", "bfloat16", "float16"], ...] = ("float32", "bfloat16", "float16")

SuiteName = Annotated[
    str, typer.Argument(metavar="SUITE", help="A suite's name, or the path of a .toml file.")
]
Results = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="Folder of the results of all suites.")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder with data sets as the hub lays them out, for work offline."
    ),
]
DType = Annotated[
    str, typer.Option(metavar="|".join(DTYPES), help="Number format of the model's weights.")
]


def say(text: str) -> None:
    """Print a line on stderr: results alone go to stdout."""
    typer.echo(text, err=True)


def say_phase(phase: str) -> None:
    """Say on stderr what is being done."""
    say(f"{phase} ...")


def check_dtype(name: str) -> Literal["float32", "bfloat16", "float16"]:
    """Return the name of a number format that exists.

    Raises:
        UserError: there is no such format.
    """
    for dtype in DTYPES:
        if name == dtype:
            return dtype
    raise UserError(f"--dtype {name!r} is none of {', '.join(DTYPES)}.{nearest(name, DTYPES)}")


def names_in(text: str) -> list[str]:
    """Return the names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]
