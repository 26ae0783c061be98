"""The forms of files: how a value in one is changed, and which kinds of fault it can have."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pyarrow as arrow  # type: ignore[import-untyped]
from pyarrow import parquet

from tests.faults import texts

Change = Callable[[bytes, Random], bytes]
_SEAL = b"\nmoebench-seal "


@dataclass(frozen=True)
class Form:
    """A way in which a file holds values; what it has no way for is None."""

    edit: Change | None = None
    """Changes one value."""
    repeat: Change | None = None
    """Lets one key stand twice."""
    split: Callable[[bytes], list[bytes]] | None = None
    """Gives the lines of a file that has one row a line."""
    join: Callable[[list[bytes]], bytes] = b"".join


def _text(change: Callable[[str, Random], str]) -> Change:
    def changed(data: bytes, rng: Random) -> bytes:
        return change(data.decode(), rng).encode()

    return changed


def _line(change: Change, form: Form) -> Change:
    """Change one of the lines."""

    def changed(data: bytes, rng: Random) -> bytes:
        assert form.split is not None
        lines = form.split(data)
        place = rng.randrange(len(lines))
        # JSON is written with line breaks, which would be other lines.
        lines[place] = change(lines[place], rng).replace(b"\n", b"") + b"\n"
        return form.join(lines)

    return changed


def _header(change: Change) -> Change:
    """Change the JSON before the tensors of a safetensors file."""

    def changed(data: bytes, rng: Random) -> bytes:
        length = int.from_bytes(data[:8], "little")
        header = change(data[8 : 8 + length], rng)
        return len(header).to_bytes(8, "little") + header + data[8 + length :]

    return changed


def _sealed(change: Change) -> Change:
    """Change what stands before a seal, and leave the seal as it is."""

    def changed(data: bytes, rng: Random) -> bytes:
        body, seal = data[: data.rfind(_SEAL)], data[data.rfind(_SEAL) :]
        inner = change if body[:1] in b'{["' else _header(change)
        return inner(body, rng) + seal

    return changed


def _cell(data: bytes, rng: Random) -> bytes:
    """Change one value of a parquet file."""
    table = parquet.read_table(io.BytesIO(data))
    column = rng.choice(table.column_names)
    values = table.column(column).to_pylist()
    place = rng.randrange(len(values))
    value = values[place]
    values[place] = f"{value}x" if isinstance(value, str) else value + 1
    written = arrow.array(values, table.column(column).type)
    table = table.set_column(table.column_names.index(column), column, written)
    sink = io.BytesIO()
    parquet.write_table(table, sink)
    return sink.getvalue()


def _lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


_EDIT, _REPEAT = _text(texts.edit_json), _text(texts.repeat_json)
_PLAIN = Form(split=_lines)
_PACKED = Form(
    split=lambda data: _lines(gzip.decompress(data)),
    join=lambda lines: gzip.compress(b"".join(lines), mtime=0),
)
JSON = Form(_EDIT, _REPEAT)
JSONL = Form(_line(_EDIT, _PLAIN), _line(_REPEAT, _PLAIN), _PLAIN.split)
PACKED = Form(_line(_EDIT, _PACKED), _line(_REPEAT, _PACKED), _PACKED.split, _PACKED.join)
TOML = Form(_text(texts.edit_toml), _text(texts.repeat_line))
README = Form(_text(texts.edit_yaml), _text(texts.repeat_line))
TENSORS = Form(_header(_EDIT), _header(_REPEAT))
SEALED = Form(_sealed(_EDIT), _sealed(_REPEAT))
PARQUET = Form(_cell)
BYTES = Form()

_BY_ENDING = {
    ".jsonl.gz": PACKED,
    ".jsonl": JSONL,
    ".json": JSON,
    ".toml": TOML,
    ".md": README,
    ".safetensors": TENSORS,
    ".parquet": PARQUET,
}


def form_of(path: Path) -> Form:
    """Return the form of a file, by its ending or by the seal of the cache."""
    if _SEAL in path.read_bytes():
        return SEALED
    return next((form for end, form in _BY_ENDING.items() if path.name.endswith(end)), BYTES)


def order(path: Path) -> bytes:
    """Return what a file is sorted by: its name, or what is sealed under a name of the moment."""
    body, seal, _ = path.read_bytes().rpartition(_SEAL) if path.is_file() else (b"", b"", b"")
    return body if seal else path.name.encode()
