"""Texts with one value changed, or one key standing twice: JSON, TOML and YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

_MARK = "the key that stands twice"
_SCALAR = re.compile(r"\"[^\"\n]*\"|(?<![\w.\"-])-?\d+(?:\.\d+)?(?![\w.\"])|\b(?:true|false)\b")
"""A string, a number or a truth value of TOML."""
_PAIR = re.compile(r"^(?P<key>[ -]*[\w-]+ ?[:=] ?)(?P<value>\S.*)$", re.MULTILINE)
"""A line with one key and its value, of TOML and of YAML."""


def other(value: Any, rng: Random) -> Any:
    """Return another value than this one: of its type, or of another."""
    match value:
        case bool():
            values: list[Any] = [not value, "yes", 2, None]
        case int():
            values = [value + 1, -value - 1, value * 1000 + 7, 10**30, value + 0.5, str(value)]
            values += [None, [value], 0 if value else 5]
        case float():
            values = [value * 2 + 1, -value - 1, float("nan"), float("inf"), "0", None]
        case str():
            values = [f"{value}x", "", 7, None, [value], f"{value[:3]}\x1b[31m", value * 2 + "y"]
            values += [value.swapcase() + "-", "\ud800", "../" + value, "long " * 2000]
        case None:
            values = [0, "null", [], True]
        case _:
            values = [None, 1, "x", {"a": 1}, [[1]]]
    return rng.choice(values)


def edit_json(text: str, rng: Random) -> str:
    """Return a JSON text in which one value is another."""
    value = json.loads(text)
    holder, key = _walked(value, rng)
    holder[key] = other(holder[key], rng)
    return json.dumps(value, indent=1)


def repeat_json(text: str, rng: Random) -> str:
    """Return a JSON text in which one key stands twice, with another value the second time."""
    value = json.loads(text)
    if not isinstance(value, dict) or not value:
        return edit_json(text, rng)
    tables = [value, *(one for one in value.values() if isinstance(one, dict) and one)]
    table = rng.choice(tables)
    key = rng.choice(list(table))
    table[_MARK] = other(table[key], rng)
    if rng.random() < 0.5:  # the right value counts with a reader that takes the last
        table[key], table[_MARK] = table[_MARK], table[key]
    return json.dumps(value).replace(json.dumps(_MARK), json.dumps(key))


def _walked(value: Any, rng: Random) -> tuple[Any, Any]:
    """A list or a table inside the value, and a place in it that holds neither."""
    holder, key = [value], 0
    while isinstance(holder[key], dict | list) and holder[key]:
        holder = holder[key]
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    return holder, key


def edit_toml(text: str, rng: Random) -> str:
    """Return a TOML text in which one string, number or truth value is another."""
    place = rng.choice([match for match in _SCALAR.finditer(text) if not _quoted(text, match)])
    value = json.loads(place[0])
    return text[: place.start()] + _literal(other(value, rng)) + text[place.end() :]


def _quoted(text: str, match: re.Match[str]) -> bool:
    """True for what stands in a comment."""
    return "#" in text[text.rfind("\n", 0, match.start()) + 1 : match.start()]


def _literal(value: Any) -> str:
    """A value as TOML writes it; what TOML has no word for is a fault of its own kind."""
    text = json.dumps(value)
    return {"NaN": "nan", "Infinity": "inf"}.get(text, text)


def edit_yaml(text: str, rng: Random) -> str:
    """Return a README in whose front matter one value is another."""
    return _front(text, rng, lambda pair: f"{pair['key']}{_literal(other(pair['value'], rng))}")


def repeat_line(text: str, rng: Random) -> str:
    """Return TOML or YAML in which one key stands twice, with another value the second time."""
    return _front(
        text,
        rng,
        lambda pair: f"{pair[0]}\n{pair['key']}{_literal(other(pair['value'], rng))}",
    )


def _front(text: str, rng: Random, change: Callable[[re.Match[str]], str]) -> str:
    pair = rng.choice(list(_PAIR.finditer(text)))
    return text[: pair.start()] + change(pair) + text[pair.end() :]
