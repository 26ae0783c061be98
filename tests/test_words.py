"""Foreign words made visible."""

from __future__ import annotations

import unicodedata

import pytest

from harness.words import NAME, SENTENCE, shown, told
from tests.hostile import NAMES, PLAIN

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_names_stay_what_they_are(name: str) -> None:
    assert shown(name) == told(name) == name


@pytest.mark.parametrize("show", [shown, told])
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_nothing_hidden_is_left(name: str, show: object) -> None:
    text = (shown if show is shown else told)(name)
    assert not {unicodedata.category(letter) for letter in text} & HIDDEN
    assert text.isprintable()
    assert len(text) <= (NAME if show is shown else SENTENCE)
    assert unicodedata.is_normalized("NFC", text)


def test_two_names_never_look_the_same() -> None:
    assert len({shown(name) for name in NAMES}) == len(set(NAMES)) == len(NAMES)
    blanks = ["a", " a", "a ", "a\xa0", "a\u200b", "a\u3164", "a\\x20", "a\ufe0f"]
    letters = ["é", "e\u0301", "e\\u0301", "\u212b", "Å", "A\u030a", "ế", "e\u0302\u0301"]
    escapes = ["\x1b", r"\x1b", r"\x5cx1b", r"\\x1b", r"\x5c\x1b", r"\x5cx5cx1b"]
    for names in (blanks, letters, escapes):
        assert len({shown(name) for name in names}) == len(names)


def test_numbers_of_characters() -> None:
    assert shown("\x1b\x9b\u202e\U000e0041") == r"\x1b\x9b\u202e\U000e0041"
    assert shown("\ud800") == r"\ud800"
    assert shown("a\nb") == r"a\x0ab"
    assert told("a\nb\r\nc\u2028d") == "a b c d"
    assert told("acme  row  seed 0") == "acme  row  seed 0"


def test_marks_stay_on_letters_that_carry_them() -> None:
    assert shown("שָׁלוֹם") == "שָׁלוֹם"
    assert shown("z" + "\u0335" * 5) == "z" + "\u0335" * 3 + r"\u0335\u0335"
    assert shown("1\u0335") == r"1\u0335"
