from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.disk.reading import (
    is_file,
    is_folder,
    parse_json,
    parse_object,
    parse_toml,
    read_object,
)
from harness.errors import UserError


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "a.json: it is not JSON, or is cut short (line 1: "),
        ('{"a": 1, "a": 2}', "a.json: the key 'a' stands twice."),
        ("[" * 100_000, "a.json: lists and tables in it are nested too deeply."),
        ("[" * 200 + "]" * 200, "a.json: lists and tables in it are nested too deeply."),
        ("9" * 5000, "a.json: a number in it has too many digits."),
        (b"\n\xff", "a.json:2: it is not text in UTF-8."),
        ("[1]", "a.json: it should hold a JSON object, not a list."),
    ],
)
def test_a_text_that_is_no_object_is_a_sentence(text: str | bytes, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_object(text, "a.json")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = \nb = 1", "a.toml:1: not valid TOML ("),
        ("a = " + "[" * 100_000, "a.toml: lists and tables in it are nested too deeply."),
        ("a = " + "9" * 5000, "a.toml: not valid TOML (a number in it has too many digits)."),
    ],
)
def test_toml_that_is_none_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_toml(text, "a.toml")


def test_a_file_is_named_with_the_fault(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no file"):
        read_object(tmp_path)
    with pytest.raises(UserError, match=r"cannot be read \(No such file"):
        read_object(tmp_path / "absent.json")


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse_json(b"\xef\xbb\xbf1", "a") == 1


def test_a_name_that_no_file_can_have_is_no_file() -> None:
    for name in ("x" * 10_000, "a\0b", "x/" * 5000):
        assert not is_file(Path(name))
        assert not is_folder(Path(name))


@pytest.mark.parametrize("half", [r"\ud83d", r"\uDE00", r"\ude00\ud83d", r"a\uD83D\u0041"])
def test_half_a_character_is_a_fault_with_its_line(half: str) -> None:
    for text in (f'"{half}"', f'{{"a": ["{half}"]}}', f'{{"{half}": 1}}'):
        with pytest.raises(UserError, match=r"^here: U\+D[0-9A-F]{3} is half a character"):
            parse_json(text, "here")
    with pytest.raises(UserError, match=r"^here:3: "):
        parse_json(f'[\n"a",\n"{half}"]', "here")


@pytest.mark.parametrize("text", [r'"\ud83d\ude00"', r'"\\ud83d"', '"\U0001f600"', r'"\u00e9"'])
def test_whole_characters_are_read_however_they_are_spelled(text: str) -> None:
    assert parse_json(text, "here") == json.loads(text)
