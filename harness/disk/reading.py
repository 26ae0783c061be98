"""Files that a person can edit, read; every fault in one is a sentence that names the place.

This is the one place where the faults of JSON, TOML, YAML, gzip and of a file itself become words.
What a text should hold is a pydantic model's to say: `read_json` and `fit` hold it to one.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tomllib
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import UserError, first_fault, first_line

FormT = TypeVar("FormT", bound=BaseModel)

_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = re.compile(rf"{_HIGH}(?!{_LOW})|(?<!{_HIGH}){_LOW}")
LARGEST = 2**30
"""Bytes that a file may have which is read whole."""
DEEPEST = 100
"""Levels of lists and tables inside each other that a text may have."""
WIDEST = 128
"""Bits of a whole number that a text may have; what is wider is no size, count or seed."""
_DEEP = "lists and tables in it are nested too deeply"
_WIDE = "a number in it has too many digits"


class BadFile(UserError):
    """A file, or a text of one, that does not hold what it should.

    Attributes:
        where: File, or file and line.
        why: The fault, without a full stop.
    """

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}.")
        self.where = where
        self.why = why


def is_file(path: Path) -> bool:
    """Return True for a file; False for a name that none can have, as too long a one.

    Names of files stand in files too, where anything may stand.
    """
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Return True for a folder; False for a name that none can have."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read_bytes(path: Path, *, largest: int = LARGEST, where: str = "") -> bytes:
    """Return a file's bytes.

    Args:
        path: The file; a link is followed.
        largest: Bytes that it may have.
        where: Name of the file in sentences; empty for the path.

    Raises:
        BadFile: it is missing, no file, too large, or cannot be read.
    """
    where = where or str(path)
    try:
        if path.exists() and not path.is_file():
            raise BadFile(where, "is no file")
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        raise BadFile(where, f"cannot be read ({error.strerror or error})") from None
    except ValueError:  # a null character in the name
        raise BadFile(repr(where), "no file can have this name") from None
    if len(data) > largest:
        raise BadFile(where, f"is larger than {largest} bytes, and no such file should be")
    return data


def read_text(path: Path, *, largest: int = LARGEST, where: str = "") -> str:
    """Return a file's text, a byte order mark left out.

    Raises:
        BadFile: as for `read_bytes`, or it is not UTF-8.
    """
    return decoded(read_bytes(path, largest=largest, where=where), where or str(path))


def unpacked(data: bytes, where: str, *, largest: int = LARGEST) -> bytes:
    """Return what gzip has packed.

    Args:
        data: The packed bytes.
        where: File, with which the sentence begins.
        largest: Bytes that they may hold.

    Raises:
        BadFile: they are no gzip, are cut short or damaged, or hold more than they should.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(largest + 1)
    except (OSError, EOFError, zlib.error):
        raise BadFile(where, "it cannot be unpacked to its end") from None
    if len(content) > largest:
        raise BadFile(where, f"it holds more than {largest} bytes, and no such file should")
    return content


def decoded(data: bytes, where: str) -> str:
    """Return the text that bytes hold.

    Raises:
        BadFile: they are not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\n" in data.rstrip():
            line = data[: error.start].count(b"\n") + 1
            where = f"{where}:{line}"
        raise BadFile(where, "it is not text in UTF-8") from None


def parse_json(text: str | bytes, where: str) -> Any:
    """Return the value that a JSON text holds; a key that stands twice is a fault.

    Args:
        text: The text; bytes are UTF-8.
        where: File, or file and line, with which the sentence begins.

    Raises:
        BadFile: the text is no JSON, is nested too deeply, or has a number that none can be.
    """
    if isinstance(text, bytes):
        text = decoded(text, where)
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        why = f"it is not JSON, or is cut short (line {error.lineno}: {error.msg})"
        raise BadFile(where, why) from None
    except RecursionError:
        raise BadFile(where, _DEEP) from None
    except ValueError as error:  # a key twice, or an integer of thousands of digits
        raise BadFile(where, _reason(error)) from None
    value = _sound(value, where)
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
        raise BadFile(
            place,
            f"U+{half[0][2:].upper()} is half a character (one of a pair of surrogates); take it "
            "out, or write the whole character",
        ) from None


def parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    """Return the object that a JSON text holds.

    Raises:
        BadFile: as for `parse_json`, or it is another value.
    """
    return an_object(parse_json(text, where), where)


def an_object(value: Any, where: str) -> dict[str, Any]:
    """Return a parsed value that is a JSON object.

    Raises:
        BadFile: it is another value.
    """
    if not isinstance(value, dict):
        raise BadFile(where, f"it should hold a JSON object, not {_kind(value)}")
    return value


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        BadFile: as for `read_bytes` and `parse_object`.
    """
    return parse_object(read_bytes(path), str(path))


def read_json(path: Path, form: type[FormT]) -> FormT:
    """Return the value in a JSON file as a `form`.

    Raises:
        BadFile: as for `read_object` and `fit`.
    """
    return fit(form, read_object(path), str(path))


def fit(form: type[FormT], values: Any, where: str) -> FormT:
    """Return parsed values as a `form`.

    Raises:
        BadFile: the first fault, by its place in the values.
    """
    try:
        return form.model_validate(values)
    except ValidationError as error:
        raise BadFile(where, first_fault(error, form).text) from None


def parse_toml(text: str, where: str, *, number: Callable[[str], Any] = float) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Args:
        text: The text.
        where: File, with which the sentence begins.
        number: Maker of numbers with a point from their digits.

    Raises:
        BadFile: it is not TOML, with the line; or as for `parse_json`.
    """
    try:
        tables = tomllib.loads(text, parse_float=number)
    except tomllib.TOMLDecodeError as error:
        reason, _, line = str(error).partition(" (at line ")
        place = f"{where}:{line.partition(',')[0]}" if line else where
        raise BadFile(place, f"not valid TOML ({reason})") from None
    except RecursionError:
        raise BadFile(where, _DEEP) from None
    except ValueError as error:  # an integer of thousands of digits, a date that is none
        raise BadFile(where, f"not valid TOML ({_reason(error)})") from None
    _sound(tables, where)
    return tables


def parse_yaml(text: str, where: str) -> Any:
    """Return the value of a YAML text that refers to nothing outside its place.

    Raises:
        BadFile: it is not YAML, has an alias (which can stand for more than fits in memory), or as
            for `parse_json`.
    """
    import yaml

    # The C loader: a README of sixty configurations takes the Python one 0.2 s.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):  # deep nesting would crash the C loader
            if isinstance(event, yaml.AliasEvent):
                raise BadFile(where, f"write out what the alias *{event.anchor} stands for")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise BadFile(where, _DEEP)
        value = yaml.load(text, Loader=loader)  # noqa: S506  (both loaders are safe)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or first_line(error)
        place = f"line {mark.line + 1}: " if mark else ""
        raise BadFile(where, f"not valid YAML ({place}{why})") from None
    except RecursionError:
        raise BadFile(where, _DEEP) from None
    except (ValueError, TypeError, AttributeError) as error:  # a date that is none, an odd key
        raise BadFile(where, f"not valid YAML ({first_line(error)})") from None
    return _sound(value, where)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r} stands twice")
        values[key] = value
    return values


def _reason(error: ValueError) -> str:
    text = str(error)
    return _WIDE if "integer string conversion" in text else text


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


def _sound(value: Any, where: str) -> Any:
    """Return a parsed value that is neither too deep nor has a number too wide for its users.

    Raises:
        BadFile: it is not.
    """
    here = [value]
    for _ in range(DEEPEST):
        if any(type(one) is int and one.bit_length() > WIDEST for one in here):
            raise BadFile(where, _WIDE)
        here = [inner for one in here for inner in _inside(one)]
        if not here:
            return value
    raise BadFile(where, _DEEP)


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
