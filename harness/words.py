r"""Foreign words made visible: names, reasons and paths as one line that does nothing but be read.

A character that moves the cursor, changes colours or the order of letters, or shows nothing at all
is written as its number (`\x1b`, `\u202e`). What a format reads as markup is each format's own
business; it comes after this.

Imports no other room.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

NAME = 200
"""Characters of a name that tables show; of a longer one they show its beginning and a digest."""
SENTENCE = 4000
"""Characters of a sentence that is shown."""
_MARKS = 3
"""Combining marks that one letter may carry; more reach into other lines."""
_NOTHING = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\ufffc"
    "\U000e0100-\U000e01ef]"
)
"""Characters that count as printable and show nothing."""
_NUMBER = re.compile(r"\\(?=x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
"""A backslash that would be taken for the beginning of an escape of ours."""
_BLANK = re.compile(r"^ | (?= )| $")
"""Blanks that are lost where text is set: the first, the last, and all but the last of a row."""


def shown(name: str, most: int = NAME) -> str:
    """Return a name as one visible line; two names never look the same.

    Args:
        name: The name, from anywhere.
        most: Characters to show; of a longer name the beginning stays, and a digest tells it from
            others of the same beginning.
    """
    return cut(_BLANK.sub(r"\\x20", _visible(name)), most)


def told(text: str, most: int = SENTENCE) -> str:
    """Return a sentence that may hold foreign words as one visible line; blanks stay.

    Args:
        text: The sentence; line breaks become blanks.
        most: As for `shown`.
    """
    return cut(_visible(" ".join(text.splitlines())), most)


def cut(text: str, most: int) -> str:
    """Return a text of at most `most` characters: where it is longer, its end is a digest."""
    if len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{text[: most - 9]}…{digest}"


def _visible(text: str) -> str:
    text = _NUMBER.sub(r"\\x5c", text)
    if text.isascii() and text.isprintable():
        return text
    parts: list[str] = []
    before, marks = "", _MARKS
    for character in text:
        kind = unicodedata.category(character)[0]
        marks = marks + 1 if kind == "M" else 0 if kind == "L" else _MARKS
        if marks > _MARKS or _hidden(character) or _composed(before, character):
            parts.append(number(character))
            before, marks = "", _MARKS
        else:
            parts.append(character)
            before = character
    return "".join(parts)


def _hidden(character: str) -> bool:
    """Return True for what moves things, or shows nothing or a blank other than the common one."""
    return not character.isprintable() or bool(_NOTHING.match(character))


def _composed(before: str, character: str) -> bool:
    """Return True if a letter looks like one of another number, alone or with the one before."""
    return not unicodedata.is_normalized("NFC", before + character)


def number(character: str) -> str:
    r"""Return a character as its number, such as `\x1b`."""
    code = ord(character)
    if code < 2**8:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"
