"""Arguments that several verbs share, and how they speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.errors import UserError

DTYPES = ("float32", "bfloat16", "float16")

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
DType = Annotated[str, typer.Option(metavar="|".join(DTYPES), help="Of the model's weights.")]


def say(text: str) -> None:
    """A line on stderr: results alone go to stdout."""
    typer.echo(text, err=True)


def dtype_named(name: str) -> Any:
    """The torch dtype of a name.

    Raises:
        UserError: there is none.
    """
    if name not in DTYPES:
        raise UserError(f"--dtype {name!r} is none of {', '.join(DTYPES)}.")
    import torch

    return getattr(torch, name)


def names_in(text: str) -> list[str]:
    """The names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]
