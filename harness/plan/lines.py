"""Lines of the keys of a TOML document, which `tomllib` forgets.

The scanner takes it that `tomllib` has accepted the text, so it only has to find its way.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache

KeyPath = tuple[str | int, ...]
"""A place in a TOML document: keys and list indices from the root, as ("recipes", 1, "name")."""

_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


@lru_cache(maxsize=4)
def lines(text: str) -> Mapping[KeyPath, int]:
    """Return the line, from 1, of every table, key and list element of a valid TOML document.

    A document is asked for the lines of all its keys, one after the other, and scanned once.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def line_of(known: Mapping[KeyPath, int], path: KeyPath) -> int:
    """Return the line of `path`, or of its nearest enclosing table that is written down.

    Args:
        known: The lines of the document.
        path: The place.
    """
    while path and path not in known:
        path = path[:-1]
    return known.get(path, 1)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.lines: dict[KeyPath, int] = {(): 1}
        self.elements: dict[KeyPath, int] = {}  # of [[arrays of tables]]
        self.counted = (0, 1)  # a position, and its line

    def document(self) -> None:
        table: KeyPath = ()
        self.blank()
        while self.position < len(self.text):
            if self.text.startswith("[[", self.position):
                table = self.header(brackets=2)
            elif self.text.startswith("[", self.position):
                table = self.header(brackets=1)
            else:
                self.pair(table)
            self.blank()

    def header(self, brackets: int) -> KeyPath:
        line = self.line()
        self.position += brackets
        self.blank()
        *parents, last = self.key()
        path: KeyPath = ()
        for part in parents:
            path = self.current((*path, part), line)
        path = (*path, last)
        if brackets == 2:
            self.elements[path] = self.elements.get(path, -1) + 1
            self.lines.setdefault(path, line)
        self.blank()
        self.position += brackets
        return self.current(path, line)

    def current(self, path: KeyPath, line: int) -> KeyPath:
        """Return `path`, or its last element when it is an array of tables."""
        if path in self.elements:
            path = (*path, self.elements[path])
        self.lines.setdefault(path, line)
        return path

    def pair(self, table: KeyPath) -> None:
        line = self.line()
        path = table
        for part in self.key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self.blank()
        self.position += 1  # "="
        self.blank()
        self.value(path)

    def value(self, path: KeyPath) -> None:
        opening = self.text[self.position]
        if opening == "[":
            self.array(path)
        elif opening == "{":
            self.inline_table(path)
        else:
            match = _STRING.match(self.text, self.position) or _SCALAR.match(
                self.text, self.position
            )
            self.position = match.end() if match else len(self.text)

    def array(self, path: KeyPath) -> None:
        self.position += 1
        index = 0
        while self.more("]"):
            self.lines[(*path, index)] = self.line()
            self.value((*path, index))
            index += 1

    def inline_table(self, path: KeyPath) -> None:
        self.position += 1
        while self.more("}"):
            self.pair(path)

    def more(self, closing: str) -> bool:
        """Step over blanks and a comma; False, and past it, at `closing`."""
        self.blank()
        if self.text.startswith(",", self.position):
            self.position += 1
            self.blank()
        if self.text.startswith(closing, self.position) or self.position >= len(self.text):
            self.position += 1
            return False
        return True

    def key(self) -> list[str]:
        parts: list[str] = []
        while True:
            bare = _BARE.match(self.text, self.position)
            match = bare or _STRING.match(self.text, self.position)
            if match is None:
                return parts
            text = match.group()
            parts.append(text if bare else tomllib.loads(f"key = {text}")["key"])
            self.position = match.end()
            dot = _DOT.match(self.text, self.position)
            if dot is None:
                return parts
            self.position = dot.end()

    def blank(self) -> None:
        match = _BLANK.match(self.text, self.position)
        self.position = match.end() if match else self.position

    def line(self) -> int:
        before, line = self.counted  # of a position that was passed: the scanner never goes back
        line += self.text.count("\n", before, self.position)
        self.counted = (self.position, line)
        return line
