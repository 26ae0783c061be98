"""Text files that a person can edit, read; every fault in one is a sentence that names the place.

This is the one place where the faults of JSON, of TOML and of a file itself become words. What a
text should hold is a pydantic model's to say: `read_json` and `fit` hold it to one.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import UserError, first_fault

FormT = TypeVar("FormT", bound=BaseModel)

_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = re.compile(rf"{_HIGH}(?!{_LOW})|(?<!{_HIGH}){_LOW}")
LARGEST = 2**30
"""Bytes that a file may have which is read whole."""
DEEPEST = 100
"""Levels of lists and tables inside each other that a text may have."""


def read_bytes(path: Path, *, largest: int = LARGEST) -> bytes:
    """Return a file's bytes.

    Args:
        path: The file; a link is followed.
        largest: Bytes that it may have.

    Raises:
        UserError: it is missing, no file, too large, or cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is no file.")
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except ValueError:  # a null character in the name
        raise UserError(f"{str(path)!r}: no file can have this name.") from None
    if len(data) > largest:
        raise UserError(f"{path}: is larger than {largest} bytes, and no such file should be.")
    return data


def read_text(path: Path, *, largest: int = LARGEST) -> str:
    """Return a file's text, a byte order mark left out.

    Raises:
        UserError: as for `read_bytes`, or it is not UTF-8.
    """
    return decoded(read_bytes(path, largest=largest), str(path))


def decoded(data: bytes, where: str) -> str:
    """Return the text that bytes hold.

    Raises:
        UserError: they are not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{where}:{line}: it is not text in UTF-8.") from None


def parse_json(text: str | bytes, where: str) -> Any:
    """Return the value that a JSON text holds; a key that stands twice is a fault.

    Args:
        text: The text; bytes are UTF-8.
        where: File, or file and line, with which the sentence begins.

    Raises:
        UserError: the text is no JSON, is nested too deeply, or has a number that none can be.
    """
    if isinstance(text, bytes):
        text = decoded(text, where)
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where}: it is not JSON, or is cut short (line {error.lineno}: {error.msg})."
        ) from None
    except RecursionError:
        raise UserError(f"{where}: lists and tables in it are nested too deeply.") from None
    except ValueError as error:  # a key twice, or an integer of thousands of digits
        raise UserError(f"{where}: {_reason(error)}.") from None
    if _deeper_than(value, DEEPEST):
        raise UserError(f"{where}: lists and tables in it are nested too deeply.")
    check_characters(text, value, where)
    return value


def check_characters(text: str, value: object, where: str) -> None:
    """Hold a value to whole characters: JSON can spell half of one, and no tokenizer reads it.

    Args:
        text: The JSON.
        value: The value that it holds.
        where: File, or file and line.

    Raises:
        UserError: half a character is in it.
    """
    half = _HALF.search(text)
    if half is None:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        line = text[: half.start()].count("\n") + 1
        place = f"{where}:{line}" if "\n" in text.rstrip() else where
        raise UserError(
            f"{place}: {half[0]} is half a character (one of a pair of surrogates); take it out, "
            "or write the whole character."
        ) from None


def parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    """Return the object that a JSON text holds.

    Raises:
        UserError: as for `parse_json`, or it is another value.
    """
    value = parse_json(text, where)
    if not isinstance(value, dict):
        raise UserError(f"{where}: it should hold a JSON object, not {_kind(value)}.")
    return value


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UserError: as for `read_bytes` and `parse_object`.
    """
    return parse_object(read_bytes(path), str(path))


def read_json(path: Path, form: type[FormT]) -> FormT:
    """Return the value in a JSON file as a `form`.

    Raises:
        UserError: as for `read_object` and `fit`.
    """
    return fit(form, read_object(path), str(path))


def fit(form: type[FormT], values: Any, where: str) -> FormT:
    """Return parsed values as a `form`.

    Raises:
        UserError: the first fault, by its place in the values.
    """
    try:
        return form.model_validate(values)
    except ValidationError as error:
        fault = first_fault(error, form)
        raise UserError(f"{where}: {fault.text}.") from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises:
        UserError: it is not TOML, with the line.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, line = str(error).partition(" (at line ")
        place = f"{where}:{line.partition(',')[0]}" if line else where
        raise UserError(f"{place}: not valid TOML ({reason}).") from None
    except RecursionError:
        raise UserError(f"{where}: lists and tables in it are nested too deeply.") from None
    except ValueError as error:  # an integer of thousands of digits, a date that is none
        raise UserError(f"{where}: not valid TOML ({_reason(error)}).") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r} stands twice")
        values[key] = value
    return values


def _reason(error: ValueError) -> str:
    text = str(error)
    return "a number in it has too many digits" if "integer string conversion" in text else text


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "text"
        case list():
            return "a list"
    return "a number"


def _deeper_than(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_deeper_than(one, levels - 1) for one in inner)
