"""Lines of TOML keys: every key that tomllib sees has one, and it is the right one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from harness.plan.lines import KeyPath, line_of, lines

DOCUMENT = '''# a comment with [brackets] = and { braces }
title = "a # is no comment"  # this one is
models = [
  "one",   # ]
  "two]",
]
[protocol]
tasks = ["a", 'b # c']
nested.dotted."quoted key" = 1
text = """
[recipes]
name = "not a key"
"""
literal = \'\'\'
x = 1 \'\'\'
[[recipes]]
name = "first"
steps = [{ method = "eep", keep = 4 }, { method = "wanda", calibration = { ref = "x" } }]
[[recipes]]
name = "second"
  [[recipes.steps]]
  method = "eep"
  keep = 6
  [[recipes.steps]]
  method = "wanda"
    [recipes.steps.calibration]
    length = 5
'''


def paths(value: Any, at: KeyPath = ()) -> Iterator[KeyPath]:
    yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*at, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from paths(inner, (*at, number))


def test_every_key_has_a_line_and_there_is_no_other() -> None:
    assert set(lines(DOCUMENT)) == set(paths(tomllib.loads(DOCUMENT)))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("models",), 3),
        (("models", 0), 4),
        (("models", 1), 5),
        (("protocol",), 7),
        (("protocol", "tasks", 1), 8),
        (("protocol", "nested", "dotted", "quoted key"), 9),
        (("protocol", "literal"), 14),
        (("recipes", 0), 16),
        (("recipes", 0, "steps", 1, "calibration", "ref"), 18),
        (("recipes", 1), 19),
        (("recipes", 1, "steps", 0, "keep"), 23),
        (("recipes", 1, "steps", 1), 24),
        (("recipes", 1, "steps", 1, "calibration", "length"), 27),
    ],
)
def test_lines(path: KeyPath, line: int) -> None:
    assert lines(DOCUMENT)[path] == line


def test_what_is_not_written_stands_where_its_table_does() -> None:
    places = lines(DOCUMENT)
    assert line_of(places, ("recipes", 1, "steps", 0, "absent", "deeper")) == 21
    assert line_of(places, ("absent",)) == 1


def test_line_endings_do_not_matter() -> None:
    assert lines(DOCUMENT.replace("\n", "\r\n")) == lines(DOCUMENT)
