"""The verbs put together, and the one place where errors become exit codes."""

from __future__ import annotations

import re
from typing import Annotated, Any, NoReturn

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
from harness.cli.process.endings import USER_ERROR, end
from harness.errors import UserError, nearest, one_line, quoted, unknown

NUMBERS = {
    r"greater than or equal to ([\d.]+)": "at least {}",
    r"less than or equal to ([\d.]+)": "at most {}",
    r"valid integer|whole number": "a whole number",
    r"valid number|valid float": "a number",
}
"""Plain words for what the parser of the command line says of numbers."""
MISUSE: type[Exception] = typer.BadParameter.__bases__[0]
"""The parser's error for a command line that it does not take; typer does not give its name."""


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
        except MISUSE as error:
            return self._misused(error)
        except UserError as error:
            typer.echo(f"moebench: {self._option(ctx, error.argument)}{error}", err=True)
            raise typer.Exit(USER_ERROR) from None
        except BaseException as error:
            if hasattr(error, "exit_code"):  # the verb's own, or the parser's
                raise
            raise typer.Exit(end(error)) from None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the options that stand before the verb.

        Raises:
            typer.Exit: with 2 for one that does not exist.
        """
        try:
            return super().parse_args(ctx, args)
        except MISUSE as error:
            return self._misused(error)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb that a command line begins with.

        Raises:
            UserError: there is none of its name.
        """
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown("verb", args[0], self.commands)
        return super().resolve_command(ctx, args)

    def _misused(self, error: Any) -> NoReturn:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help is its text
            raise error
        typer.echo(f"moebench: {misuse(error)}", err=True)
        raise typer.Exit(USER_ERROR) from None

    def _option(self, ctx: Any, argument: str) -> str:
        """Return the verb's option that gives an argument, as a sentence begins with it."""
        verb = self.commands.get(ctx.invoked_subcommand or "")
        for parameter in verb.params if verb else ():
            if parameter.name == argument:
                return f"{parameter.opts[0]}: "
        return ""


def misuse(error: Any) -> str:
    """Return one sentence on a command line that the parser does not take.

    Args:
        error: The parser's error, a subclass of `MISUSE`.
    """
    verb = error.ctx.info_name if error.ctx is not None else "moebench"
    parameters = error.ctx.command.params if error.ctx is not None else []
    known = [name for one in parameters for name in one.opts if name.startswith("-")]
    parameter = getattr(error, "param", None)
    match type(error).__name__:
        case "NoSuchOption":
            name = error.option_name
            return f"{verb} has no option {quoted(name)}.{nearest(name, known)} See {verb} --help."
        case "MissingParameter" if parameter is not None:
            named = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
            return f"{verb} needs {named}. See {verb} --help."
        case "BadOptionUsage":
            return f"{error.option_name}: {_sentence(error.message)}"
        case "BadParameter" if parameter is not None:
            wanted = wanted_number(error.message)
            if wanted is not None:
                return f"{parameter.opts[0]} should be {wanted}."
            return f"{parameter.opts[0]}: {_sentence(error.message)}"
    return f"{verb}: {_sentence(error.format_message())}"


def _sentence(message: str) -> str:
    text = one_line(message).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}."


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
