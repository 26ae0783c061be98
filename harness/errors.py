"""What a user can fix is said in one sentence; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """One sentence for the user: what, where, what to do. The command line exits with 2."""


class Refused(UserError):
    """A method or an edit that cannot be carried out; becomes a `refused` record."""


class StaleWalk(RuntimeError):
    """A method edited a block that one of its live walks had already passed."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its full stop, or its type's name."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".!")


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest of `known`, or nothing when none is near."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "") -> UserError:
    """The error for a name that does not exist.

    Args:
        kind: What was named ("method", "task", ...).
        name: The name as the user spelled it.
        known: The names that exist.
        where: File and line, or option, with which the sentence begins.
    """
    names = sorted(known)
    listed = ", ".join(names) if len(names) <= 20 else f"{len(names)} exist"
    prefix = f"{where}: " if where else ""
    return UserError(f"{prefix}unknown {kind} {name!r}.{nearest(name, names)} Known: {listed}.")
