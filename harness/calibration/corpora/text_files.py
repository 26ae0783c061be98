"""Documents read from files: plain text, JSON, JSON lines or parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.data.files import READABLE, read, suffix
from harness.disk.reading import decoded, read_bytes, unpacked
from harness.errors import UserError, nearest

SUFFIXES = (".txt", *READABLE)
"""Endings of files that hold documents; each but parquet may be followed by `.gz`."""


def documents(path: Path, field: str = "text") -> Iterator[str]:
    """The documents of a file, in order.

    A `.txt` is one document. Every row of the others is one: an object per line or in one list,
    or a row of parquet.

    Args:
        path: The file; text is UTF-8.
        field: The rows' field that holds the document.

    Raises:
        UserError: while iterating, with the file and its line or row: unreadable file, invalid
            JSON, missing field, a document that is no text or an empty one, no document at all.
    """
    if suffix(path) == ".txt":
        yield _full(_plain(path), str(path))
        return
    number = 0
    for number, row in enumerate(read(path), 1):
        where = f"{path}: row {number}"
        yield _full(text(row, field, where), where)
    if not number:
        raise UserError(f"{path}: holds no document.")


def _plain(path: Path) -> str:
    data = read_bytes(path)
    return decoded(unpacked(data, str(path)) if path.suffix == ".gz" else data, str(path))


def text(row: dict[str, Any], field: str, where: str) -> str:
    """A field of a row.

    Raises:
        UserError: there is none, or it is no text; begins with `where`.
    """
    if field not in row:
        raise UserError(
            f"{where}: no field {field!r}.{nearest(field, row)} "
            f"Fields: {', '.join(row)}; name one as FILE#FIELD."
        )
    value = row[field]
    if not isinstance(value, str):
        raise UserError(f"{where}: the field {field!r} is {type(value).__name__}, not text.")
    return value


def _full(document: str, where: str) -> str:
    if not document.strip():
        raise UserError(f"{where}: the document is empty; remove it.")
    return document
