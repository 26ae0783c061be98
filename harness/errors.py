"""Errors a user can fix, in one sentence each; all others are bugs and keep their traceback."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails


LONGEST = 120
"""Characters of a name that a sentence quotes; longer ones are cut."""


class UserError(Exception):
    """One sentence for the user: what, where, what to do. The command line exits with 2.

    The sentence is one line whatever it quotes: files and names hold line breaks and escapes too.

    Attributes:
        argument: Name of the argument of the called function that is at fault, where the sentence
            does not say it. The command line begins the sentence with its option of that name.
    """

    def __init__(self, sentence: str, *, argument: str = "") -> None:
        super().__init__(one_line(sentence))
        self.argument = argument


class Refused(UserError):
    """A method or an edit that cannot be carried out; becomes a `refused` record."""


class StaleWalk(RuntimeError):
    """A method edited a block that one of its live walks had already passed."""


def one_line(text: str) -> str:
    """Return text on one line: line breaks are blanks, and what cannot be printed is escaped."""
    if text.isprintable():
        return text
    blank = " ".join(text.splitlines())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in blank)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its full stop, or its type's name.

    Of the system's errors it is the reason alone, without number and path.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".!")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest of `known`, or nothing when none is near."""
    near = [one for one in known if len(one) <= LONGEST]  # the search is slow on long ones
    match = difflib.get_close_matches(name[:LONGEST], near, n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""


def quoted(name: str) -> str:
    """Return a name in quotes, cut where it is longer than any name should be."""
    return repr(name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}...")


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
    shown = len(names) <= 20 and max(map(len, names), default=0) <= LONGEST
    listed = ", ".join(names) if shown else f"{len(names)} exist"
    there = f"Known: {listed}" if names else "There is none at all"
    prefix = f"{where}: " if where else ""
    sentence = f"{prefix}unknown {kind} {quoted(name)}.{nearest(name, names)} {there}."
    return UserError(sentence, argument=argument)


@dataclass(frozen=True)
class Fault:
    """The first fault of data that do not fit a pydantic model."""

    place: tuple[str | int, ...]
    """Keys and indices that lead from the root of the data to the fault."""
    text: str
    """The fault in plain words, without a full stop."""


def first_fault(error: ValidationError, form: type[BaseModel], *, noun: str = "") -> Fault:
    """Return the first fault of data that a pydantic model refused.

    Args:
        error: The refusal.
        form: The model.
        noun: Word for a key of the data, before its name ("option"); without one the name alone.
    """
    faults = [(_place(form, fault["loc"]), fault) for fault in error.errors(include_url=False)]
    first = faults[0][0]
    # Each alternative of a union has a fault of its own; the one that fits best goes deepest.
    related = [place for place, _ in faults if _begins(place, first) or _begins(first, place)]
    place = max(related, key=len)
    here = [fault for other, fault in faults if other == place]
    name = next((part for part in reversed(place) if isinstance(part, str)), "")
    subject = f"{noun} {quoted(name)}".strip() if name else "it"
    return Fault(place, _text(subject, name, here, form, noun or "key"))


_WANTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "decimal_parsing": "a number",
    "decimal_type": "a number",
    "dict_type": "a table",
    "enum": "{expected}",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "frozen_set_type": "a list",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "mapping_type": "a table",
    "model_attributes_type": "a table",
    "model_type": "a table",
    "multiple_of": "a multiple of {multiple_of}",
    "set_type": "a list",
    "string_pattern_mismatch": "of the form {pattern}",
    "string_sub_type": "text",
    "string_too_long": "text of at most {max_length} characters",
    "string_too_short": "text of at least {min_length} characters",
    "string_type": "text",
    "string_unicode": "text in UTF-8",
    "too_long": "of length at most {max_length}",
    "too_short": "of length at least {min_length}",
    "tuple_type": "a list",
    "unhashable_type": "a list of single values",
}
"""Description of a right value, by the type of pydantic's fault."""


def _text(
    subject: str, name: str, faults: Sequence[ErrorDetails], form: type[BaseModel], noun: str
) -> str:
    """The text of faults at one place."""
    fault = faults[0]
    match fault["type"]:
        case "json_invalid":
            return "it is not JSON, or is cut short"
        case "missing":
            return f"{subject} is missing"
        case "extra_forbidden":
            known = _keys(form, fault["loc"][:-1])
            there = f"Known: {', '.join(known)}" if known else "There is none at all"
            return f"unknown {noun} {quoted(name)}.{nearest(name, known)} {there}"
        case "value_error":
            reason = fault["ctx"]["error"]
            return f"{subject}: {reason}" if name else str(reason)
    wanted = [
        _WANTED[fault["type"]].format(**fault.get("ctx", {}))
        for fault in faults
        if fault["type"] in _WANTED
    ]
    if not wanted:
        return f"{subject} cannot be {_shown(fault['input'])}"
    return f"{subject} should be {' or '.join(dict.fromkeys(wanted))}, not {_shown(fault['input'])}"


def _shown(value: object) -> str:
    """A value as TOML writes it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=_plain)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _plain(value: object) -> object:
    return sorted(value, key=repr) if isinstance(value, (set, frozenset)) else repr(value)


def _begins(place: Sequence[str | int], start: Sequence[str | int]) -> bool:
    return place[: len(start)] == start


def _place(form: type[BaseModel], loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """A fault's place in the data; pydantic's names of a union's alternatives are left out."""
    return _walk(form, loc)[0]


def _keys(form: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that the table at a place may have."""
    return [key for kind in _walk(form, loc)[1] for key in getattr(kind, "model_fields", ())]


def _walk(
    form: type[BaseModel], loc: Sequence[str | int]
) -> tuple[tuple[str | int, ...], list[Any]]:
    """The place in the data that pydantic's `loc` means, and the types that may stand there."""
    place: list[str | int] = []
    kinds: list[Any] = [form]
    named = False
    for part in loc:
        if part == "[key]":  # the key before it is what is wrong
            break
        if len(kinds) > 1 and not named:
            named = True  # `part` is an alternative of the union, no key
            continue
        place.append(part)
        kinds, named = [inner for kind in kinds for inner in _inside(kind, part)], False
    return tuple(place), kinds


def _inside(kind: Any, part: str | int) -> list[Any]:
    """The types that may stand under a key or an index of a type."""
    if hasattr(kind, "model_fields"):
        field = kind.model_fields.get(part)
        return _alternatives(field.annotation) if field else []
    origin, inner = get_origin(kind), get_args(kind)
    if not inner or not isinstance(origin, type):
        return []
    if issubclass(origin, Mapping):
        return _alternatives(inner[1])
    each = len(inner) == 1 or inner[-1] is Ellipsis
    return _alternatives(inner[0 if each else int(part)])


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union, None left out; any other type alone."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    return [] if annotation is NoneType else [annotation]
