"""The verbs put together, and the one place where errors become exit codes."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harness.cli import (
    archive,
    cache,
    compress,
    doctor,
    evaluate,
    export,
    gate,
    leaderboard,
    listing,
    plot,
    run,
    show,
    verdict,
)
from harness.cli.options import say
from harness.cli.process.endings import USER_ERROR, end
from harness.errors import UserError

NUMBERS = {
    r"greater than or equal to ([\d.]+)": "at least {}",
    r"less than or equal to ([\d.]+)": "at most {}",
    r"valid integer|whole number": "a whole number",
    r"valid number|valid float": "a number",
}
"""Plain words for what the parser of the command line says of numbers."""


class Verbs(TyperGroup):
    """Group of verbs that ends with one sentence where it fails; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb.

        Raises:
            typer.Exit: with 2 for what the user can fix, with more for the rest (see `endings`),
                with 1 only where the verb says so.
        """
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if error.param is None or (wanted := wanted_number(error.message)) is None:
                raise
            say(f"moebench: {error.param.opts[0]} should be {wanted}.")
            raise typer.Exit(USER_ERROR) from None
        except UserError as error:
            say(f"moebench: {self._option(ctx, error.argument)}{error}")
            raise typer.Exit(USER_ERROR) from None
        except BaseException as error:
            if hasattr(error, "exit_code"):  # the verb's own, or the parser's
                raise
            raise typer.Exit(end(error)) from None

    def _option(self, ctx: Any, argument: str) -> str:
        """Return the verb's option that gives an argument, as a sentence begins with it."""
        verb = self.commands.get(ctx.invoked_subcommand or "")
        for parameter in verb.params if verb else ():
            if parameter.name == argument:
                return f"{parameter.opts[0]}: "
        return ""


def wanted_number(message: str) -> str | None:
    """Return in plain words the number that an option takes, from the parser's message."""
    for pattern, words in NUMBERS.items():
        if match := re.search(pattern, message):
            return words.format(*match.groups())
    return None


app = typer.Typer(
    name="moebench",
    cls=Verbs,
    help="Compress Mixture-of-Experts language models, and compare the results.",
    epilog="Begin with: moebench run quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (
    run,
    leaderboard,
    verdict,
    gate,
    plot,
    archive,
    cache,
    compress,
    export,
    evaluate,
    listing,
    show,
    cache,
    doctor,
):
    verb.add(app)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("moebench"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """The options of `moebench` itself; each has done its work in its callback."""
