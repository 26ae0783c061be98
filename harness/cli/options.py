"""Arguments that several verbs share, and lines that they print."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from harness.errors import UserError, nearest, unknown
from harness.words import told

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
        metavar="DIR", help="Folder of data sets, laid out as on the hub, in place of the hub."
    ),
]
DType = Annotated[
    str, typer.Option(metavar="|".join(DTYPES), help="Number format of the model's weights.")
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify",
        help="Compare an artifact's files with the digests taken when it was made.",
    ),
]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File for the table, in place of stdout.")
]


def format_option(*formats: str) -> Any:
    """Return the option that chooses one of a table's formats."""
    return typer.Option("--format", metavar="|".join(formats), help="Format of the table.")


def check_format(name: str, *formats: str) -> str:
    """Return the name of one of a table's formats.

    Raises:
        UserError: it has no such format.
    """
    if name not in formats:
        raise unknown("format", name, formats, where="--format")
    return name


def results_of(suite: str, results: Path) -> Path:
    """Return the folder of a suite's results.

    Args:
        suite: The suite's name, which may have dots, or the path of its file.
        results: Folder of the results of all suites.
    """
    return results / Path(suite).name.removesuffix(".toml")


def put_out(text: str, out: Path | None) -> None:
    """Print a table, or write it to a file and say so."""
    from harness.disk.writing import no_space, put_named

    if out is None:
        typer.echo(text, nl=not text.endswith("\n"))
        return
    with no_space(out):
        put_named(out, text.encode())
    say(f"Wrote {out}.")


def say(text: str) -> None:
    """Print a line on stderr: results alone go to stdout. Foreign words in it become visible."""
    typer.echo(told(text), err=True)


def tell(text: str) -> None:
    """Print a line of a result; foreign words in it become visible."""
    typer.echo(told(text))


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


def as_list(value: Any, annotation: Any) -> Any:
    """Return a value of the command line as a list, if an option of this type takes several.

    Args:
        value: The value as TOML reads it, or a string. Commas separate the elements of a string;
            any other single value is the only element.
        annotation: The option's type.
    """
    if not _takes_several(annotation) or isinstance(value, (list, dict)):
        return value
    return names_in(value) if isinstance(value, str) else [value]


def _takes_several(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    if origin in (Union, UnionType, Annotated):
        return any(_takes_several(part) for part in get_args(annotation))
    return origin in (list, set, frozenset, tuple)
