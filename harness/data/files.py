"""Rows of one data file: JSON lines, a JSON array or parquet; JSON also with `.gz`."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from harness.disk.reading import an_object, parse_json, parse_object
from harness.errors import UserError, first_line

Example = dict[str, Any]

READABLE = (".jsonl", ".json", ".ndjson", ".parquet")


def suffix(path: Path) -> str:
    """The file's last suffix, `.gz` aside."""
    return Path(path.name.removesuffix(".gz")).suffix


def form(path: Path) -> str:
    """The ending that says how a file is written, `.gz` included."""
    return suffix(path) + (".gz" if path.name.endswith(".gz") else "")


def is_data(path: Path) -> bool:
    """True if the file's name is that of a data file this module reads."""
    return suffix(path) in READABLE and not path.name.startswith(".")


def read(path: Path) -> Iterator[Example]:
    """The rows of `path`, in order.

    Raises:
        UserError: while iterating: an unreadable file, or a line that is no JSON object.
    """
    for _, row in placed(path):
        yield row


def placed(path: Path) -> Iterator[tuple[str, Example]]:
    """The rows of `path` as `read` gives them, each with its place: file and line or number."""
    if suffix(path) == ".parquet":
        for number, row in enumerate(_parquet(path), 1):
            yield f"{path}: row {number}", row
        return
    if suffix(path) not in READABLE:
        raise UserError(f"{path}: {path.suffix or 'no suffix'} is none of {', '.join(READABLE)}.")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from _json(path, file)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read to its end ({first_line(error)}).") from None


def _json(path: Path, file: BufferedReader | gzip.GzipFile) -> Iterator[tuple[str, Example]]:
    is_array = suffix(path) == ".json" and file.read(64).lstrip().startswith(b"[")
    file.seek(0)
    if is_array:
        yield from _array(path, file.read())
        return
    for number, line in enumerate(file, 1):
        if line.strip():
            where = f"{path}:{number}"
            yield where, parse_object(line, where)


def _array(path: Path, text: bytes) -> Iterator[tuple[str, Example]]:
    for number, item in enumerate(parse_json(text, str(path)), 1):
        where = f"{path}: item {number}"
        yield where, an_object(item, where)


def _parquet(path: Path) -> Iterator[Example]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as parquet ({first_line(error)}).") from None
