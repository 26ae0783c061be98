"""Changes that people, programs and disks make to a file: to its bytes, or to the values in it."""

from __future__ import annotations

import copy
import gzip
import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import strategies as st


@dataclass(frozen=True)
class Raw:
    """Text that stands for itself in JSON or TOML."""

    text: str


DEEP = 100_000
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**64,
    10**12,
    10**40,
    Raw("9" * 5000),
    Raw("0x" + "f" * 5000),
    0.5,
    -1e308,
    Raw("1e999"),
    Raw("NaN"),
    Raw("nan"),
    Raw("-Infinity"),
    Raw("inf"),
    "",
    "x",
    "1",
    "..",
    "../../etc/passwd",
    "/dev/null",
    "a\nb\r\x1b[31m\x00",
    "=HYPERLINK(1)",
    "\u2028\u202e\ufffe",
    Raw('"\\ud800"'),
    Raw('"\\udfff x"'),
    "x" * 100_000,
    "\N{GRINNING FACE}" * 50,
    [],
    [[]],
    [None],
    [1, "a", None],
    {},
    {"": {}},
    {"a": {"b": [{"c": 1}]}},
    Raw("[" * 150 + "]" * 150),
    Raw("[" * DEEP + "]" * DEEP),
    Raw("[" * DEEP),
    Raw('{"a":' * 3000 + "1" + "}" * 3000),
    Raw("{a=" * 3000 + "1" + "}" * 3000),
    Raw("1979-05-27T07:32:00Z"),
    Raw(""),
)
"""Values that stand where another should."""
KEYS = ("", "x", "\n", "__class__", "seed", "model", "x" * 10_000, "\N{GRINNING FACE}", "a.b")


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in parsed values, the whole first."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


def at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def _set(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    at(value, place[:-1])[place[-1]] = new
    return value


class Twice(dict[str, Any]):
    """An object in which every key stands twice."""


@st.composite
def other_values(draw: st.DrawFn, value: Any) -> Any:
    """The values with one to three changes."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.sampled_from(places(value)))
        old = at(value, where)
        match draw(st.integers(0, 7)):
            case 0 if where:  # missing
                owner = at(value, where[:-1])
                del owner[where[-1]]
            case 1:
                value = _set(value, where, [old])
            case 2:
                value = _set(value, where, {"a": old})
            case 3 if isinstance(old, dict):
                value = _set(value, where, Twice(copy.deepcopy(old)))
            case 4 if isinstance(old, dict):
                old[draw(st.sampled_from(KEYS))] = copy.deepcopy(draw(st.sampled_from(ODD)))
            case 5 if isinstance(old, list):
                old.extend(copy.deepcopy(old) * draw(st.sampled_from((1, 50))))
            case 6 if isinstance(old, (int, float)):
                value = _set(value, where, str(old))
            case _:
                value = _set(value, where, copy.deepcopy(draw(st.sampled_from(ODD))))
    return value


def as_json(value: Any) -> str:
    match value:
        case Raw():
            return value.text
        case dict():
            pairs = [f"{json.dumps(key)}:{as_json(one)}" for key, one in value.items()]
            return "{" + ",".join(pairs * (2 if isinstance(value, Twice) else 1)) + "}"
        case list():
            return "[" + ",".join(map(as_json, value)) + "]"
    return json.dumps(value, default=str)


def as_toml(value: Any) -> str:
    """Values as TOML whose inner tables are inline; what has no words there is text."""
    if not isinstance(value, dict):
        return f"x = {_inline(value)}\n"
    pairs = [f"{json.dumps(key)} = {_inline(one)}\n" for key, one in value.items()]
    return "".join(pairs * (2 if isinstance(value, Twice) else 1))


def _inline(value: Any) -> str:
    match value:
        case Raw():
            return value.text
        case dict():
            pairs = [f"{json.dumps(key)} = {_inline(one)}" for key, one in value.items()]
            return "{" + ", ".join(pairs * (2 if isinstance(value, Twice) else 1)) + "}"
        case list():
            return "[" + ", ".join(map(_inline, value)) + "]"
        case None:
            return '"null"'
        case str() | bool() | int() | float():
            return json.dumps(value)
    return str(value)


@st.composite
def other_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with one to three changes."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 64)))
        match draw(st.integers(0, 7)):
            case 0:
                data = data[:start]
            case 1 if data:
                spot = min(start, len(data) - 1)
                flipped = data[spot] ^ (1 << draw(st.integers(0, 7)))
                data = data[:spot] + bytes([flipped]) + data[spot + 1 :]
            case 2:
                data = data[:start] + data[end:]
            case 3:
                data = data[:end] + data[start:]
            case 4:
                data = data[:start] + draw(st.binary(max_size=8)) + data[end:]
            case 5:
                data = data[:start] + bytes(end - start) + data[end:]
            case 6:
                text = draw(st.sampled_from(("[", "]", "{", "}", '"', ",", "\n", "9" * 40, "-")))
                data = data[:start] + text.encode() + data[end:]
            case _:
                prefix = (b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"PK\x03\x04", b"\x00")
                data = draw(st.sampled_from(prefix)) + data[start:]
    return data


def json_file(data: bytes) -> st.SearchStrategy[bytes]:
    value = json.loads(data)
    return st.one_of(other_values(value).map(_json_bytes), other_bytes(data))


def toml_file(data: bytes) -> st.SearchStrategy[bytes]:
    value = tomllib.loads(data.decode())
    return st.one_of(other_values(value).map(lambda v: as_toml(v).encode()), other_bytes(data))


def json_lines(data: bytes) -> st.SearchStrategy[bytes]:
    """One line changed in its values, or the bytes of all."""
    lines = data.splitlines(keepends=True)

    def changed(number: int) -> st.SearchStrategy[bytes]:
        after = other_values(json.loads(lines[number])).map(_json_bytes)
        return after.map(
            lambda line: b"".join([*lines[:number], line, b"\n", *lines[number + 1 :]])
        )

    numbers = st.integers(0, len(lines) - 1)
    return st.one_of(numbers.flatmap(changed), other_bytes(data))


def packed(inner: Callable[[bytes], st.SearchStrategy[bytes]]) -> Any:
    """The changes of a packed file: of what it holds, or of its own bytes."""

    def changes(data: bytes) -> st.SearchStrategy[bytes]:
        return st.one_of(inner(gzip.decompress(data)).map(gzip.compress), other_bytes(data))

    return changes


def safetensors_file(data: bytes) -> st.SearchStrategy[bytes]:
    """The header changed in its values, or any bytes."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]

    def whole(value: Any) -> bytes:
        text = _json_bytes(value)
        return len(text).to_bytes(8, "little") + text + body

    return st.one_of(other_values(header).map(whole), other_bytes(data))


def _json_bytes(value: Any) -> bytes:
    return as_json(value).encode()


def front_matter(data: bytes) -> st.SearchStrategy[bytes]:
    """The README's YAML changed in its values (JSON is YAML), or any bytes."""
    _, front, rest = data.decode().split("---\n", 2)
    changed = other_values(yaml.safe_load(front)).map(as_json)
    whole = changed.map(lambda text: f"---\n{text}\n---\n{rest}".encode())
    return st.one_of(whole, other_bytes(data), st.sampled_from(YAML).map(str.encode))


YAML = (
    "---\nconfigs: &a [*a]\n---\n",
    "---\na: &a [x, x]\nb: &b [*a, *a]\nconfigs: [*b, *b]\n---\n",
    "---\nconfigs: !!python/object/apply:os.getpid []\n---\n",
    "---\n? {a: b}\n: c\n---\n",
    "---\n- configs\n---\n",
    "---\n<<: 3\n---\n",
    "---\n" + "- " * 5000 + "\n---\n",
)
STATEMENTS = (
    "import sys; sys.exit(3)",
    "raise SystemExit",
    "1 / 0",
    "import nothing_of_this_name",
    "raise BaseException('x')",
    "def f(:",
    "class Nothing: pass",
    "Nothing = 3",
    "from pydantic import BaseModel\nclass Nothing(BaseModel): x: 'Missing'",
    "def forever(n):\n    forever(n)\nforever(1)",
    "class Meta(type):\n    def __init__(*a): raise SystemExit(1)\nclass X(metaclass=Meta): pass",
)


def python_file(data: bytes) -> st.SearchStrategy[bytes]:
    """A statement more, at the beginning or the end, or any bytes."""
    more = st.sampled_from(STATEMENTS).map(str.encode)
    return st.one_of(
        more.map(lambda line: line + b"\n" + data),
        more.map(lambda line: data + b"\n" + line + b"\n"),
        other_bytes(data),
    )
