"""What a user can fix is said in one sentence; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """One sentence for the user: what, where, what to do. The command line exits with 2.

    Attributes:
        argument: Name of the argument of the called function that is at fault, where the sentence
            does not say it. The command line begins the sentence with its option of that name.
    """

    def __init__(self, sentence: str, *, argument: str = "") -> None:
        super().__init__(sentence)
        self.argument = argument


class Refused(UserError):
    """A method or an edit that cannot be carried out; becomes a `refused` record."""


class StaleWalk(RuntimeError):
    """A method edited a block that one of its live walks had already passed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest of `known`, or nothing when none is near."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""


def unknown(
    kind: str, name: str, known: Iterable[str], *, where: str = "", argument: str = ""
) -> UserError:
    """Return the error for a name that does not exist.

    Args:
        kind: What was named ("method", "task", ...).
        name: The name as the user spelled it.
        known: The names that exist.
        where: File and line, or option, with which the sentence begins.
        argument: As for `UserError`, where a caller's argument is all that is known of the place.
    """
    names = sorted(known)
    listed = ", ".join(names) if len(names) <= 20 else f"{len(names)} exist"
    prefix = f"{where}: " if where else ""
    sentence = f"{prefix}unknown {kind} {name!r}.{nearest(name, names)} Known: {listed}."
    return UserError(sentence, argument=argument)
