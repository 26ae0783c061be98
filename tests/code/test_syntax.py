"""Digests of syntax: the same for the same program, another for another."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import pytest

from harness.code.outline import as_json, outline_of
from harness.code.syntax import digest

RICH = Path(__file__).with_name("rich_syntax.txt")
RICH_SYNTAX = "3888513183a77afc92452ac2ab12f85b0293b2cace6de13d99e9f5ac9420bb38"
RICH_OUTLINE = "51e6cbc245d3d4ac89c0f3c159a8aa824110511282c41d02fe95e5604228b6d7"

PROGRAM = '''\
"""Module."""
import os
import sys
from math import inf, pi

LIMIT: int = 3
"""The limit."""


def area(radius, *, scale=2.0):
    """Docstring."""
    if radius > 1:
        return pi * radius**2 * scale
    total = 0
    for index in range(LIMIT):
        total += values[index, :, -1] @ other.sum(axis=0)
        if total < 0:
            total = -total
            total = total
    return f"{total:.2f} of {radius!r}"


@cached
class Shape(Base):
    sides = 4

    def grow(self, by=1): return self.sides + by
'''

SAME = {
    "a comment": ("    total = 0", "    # nothing yet\n    total = 0  # so far"),
    "a docstring": ('"""Docstring."""', '"""Other words."""'),
    "a docstring gone": ('    """Docstring."""\n', ""),
    "the module's docstring": ('"""Module."""\n', ""),
    "an attribute's docstring": ('"""The limit."""', '"""The most."""'),
    "an attribute's docstring gone": ('"""The limit."""\n', ""),
    "blank lines": ("    total = 0\n", "\n\n    total = 0\n\n"),
    "other quotes": ('f"{total:.2f} of {radius!r}"', "f'''{total:.2f} of {radius!r}'''"),
    "a string in parts": ('{total:.2f} of {radius!r}"', '{total:.2f}" " o" f"f {radius!r}"'),
    "brackets": ("pi * radius**2 * scale", "((pi * (radius**2)) * scale)"),
    "a line in two": ("total += values", "total += \\\n            values"),
    "a trailing comma": ("*, scale=2.0)", "*, scale=2.0,)"),
    "a number in other words": ("scale=2.0", "scale=0.2e1"),
    "the order of imports": ("import os\nimport sys\n", "import sys\nimport os\n"),
    "imports in brackets": ("from math import inf, pi", "from math import (\n    pi,\n    inf,\n)"),
    "an import more": ("import os\n", "import os\nimport re\n"),
    "an import moved into a function": ('    """Docstring."""\n', "    from math import pi\n"),
    "a body on its own line": ("by=1): return", "by=1):\n        return"),
}
OTHER = {
    "a sign": ("values[index, :, -1]", "values[index, :, 1]"),
    "plus for minus": ("total += values", "total -= values"),
    "an index": ("values[index, :, -1]", "values[index, :, -2]"),
    "a slice": ("values[index, :, -1]", "values[index, 0:, -1]"),
    "an axis": ("axis=0", "axis=1"),
    "a keyword": ("axis=0", "dim=0"),
    "a keyword by place": ("axis=0", "0"),
    "a constant": ("LIMIT: int = 3", "LIMIT: int = 4"),
    "an annotation": ("LIMIT: int = 3", "LIMIT: float = 3"),
    "a number of another type": ("sides = 4", "sides = 4.0"),
    "a boolean for a number": ("sides = 4", "sides = True"),
    "a default": ("scale=2.0", "scale=2.5"),
    "keyword only no more": ("radius, *, scale", "radius, scale"),
    "a comparison": ("radius > 1", "radius >= 1"),
    "an operator": ("radius**2", "radius*2"),
    "the order of operands": ("values[index, :, -1] @ other", "other @ values[index, :, -1]"),
    "brackets that count": ("pi * radius**2", "(pi * radius)**2"),
    "a decorator": ("@cached\n", "@frozen\n"),
    "a decorator gone": ("@cached\n", ""),
    "a base": ("Shape(Base)", "Shape(Other)"),
    "an f-string's text": ("} of {", "} in {"),
    "an f-string's format": (".2f", ".3f"),
    "an f-string's conversion": ("!r", "!s"),
    "a name": ("other.sum", "others.sum"),
    "an attribute": ("other.sum", "other.mean"),
    "a method's name": ("def grow", "def shrink"),
    "a statement moved out": ("            total = total\n", "        total = total\n"),
    "a statement more": ("    total = 0\n", "    total = 0\n    total = 1\n"),
    "a return gone": ("        return pi", "        pi"),
}


def of(text: str) -> str:
    return digest([ast.parse(text)])


def replaced(before: str, after: str) -> str:
    assert PROGRAM.count(before) == 1
    return PROGRAM.replace(before, after)


@pytest.mark.parametrize("change", SAME)
def test_layout_and_words_change_nothing(change: str) -> None:
    assert of(replaced(*SAME[change])) == of(PROGRAM)


@pytest.mark.parametrize("change", OTHER)
def test_another_program_has_another_digest(change: str) -> None:
    assert of(replaced(*OTHER[change])) != of(PROGRAM)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = None", "x = ..."),
        ("x = 1", "x = 1j"),
        ("x = '1'", "x = b'1'"),
        ("x = ()", "x = []"),
        ("x = 'a', 'b'", "x = 'ab'"),
        ("f(a, *b)", "f(a, b)"),
        ("f(**a)", "f(*a)"),
        ("def f(a, /): pass", "def f(a): pass"),
        ("def f(*, a, b=1): pass", "def f(*, a=1, b): pass"),
        ("def f(): yield x", "def f(): return x"),
        ("async def f(): pass", "def f(): pass"),
        ("x = {**a, 'b': 1}", "x = {'b': 1, **a}"),
        ("x = {a: b for a in c}", "x = {b: a for a in c}"),
        ("try: f()\nexcept E: g()", "try: f()\nexcept* E: g()"),
        ("x = f'{a}{b}'", "x = f'{b}{a}'"),
        ("x = f'{a}'", "x = 'a'"),
        ("if a: b\nelse: c", "if a: c\nelse: b"),
        ("global a", "nonlocal a"),
        ("x = a < b < c", "x = a < (b < c)"),
        ("raise A from B", "raise A"),
        ("x: int", "x = int"),
        ("del x", "x"),
        ("import_ = 0.1", "import_ = 0.10000000000000002"),
    ],
)
def test_neighbours_are_told_apart(one: str, other: str) -> None:
    assert of(one) != of(other)


def test_every_python_reads_the_same() -> None:
    """These digests are those of Python 3.11, 3.12, 3.13 and 3.14."""
    text = RICH.read_bytes()
    assert of(text.decode()) == RICH_SYNTAX
    read = json.dumps(
        as_json(outline_of(text, RICH.with_suffix(".py"), "house.rich")), default=list
    )
    assert hashlib.sha256(read.encode()).hexdigest() == RICH_OUTLINE
