"""Sealed files of the cache: each ends with the length and the digest of what stands before.

The seal stands at the end, so that a file that was cut has none, and so that the loader of compiled
code, which passes over what follows the code, takes a sealed file as it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.cache.keeping import keep
from harness.disk.reading import BadFile, parse_json

_SEAL = re.compile(rb"\nmoebench-seal ([0-9]{16}) ([0-9a-f]{64})\n")
_LENGTH = len("\nmoebench-seal ") + 16 + 1 + 64 + 1
_log = logging.getLogger(__name__)


def read(path: Path, kind: Any = Any) -> Any | None:
    """Return the JSON value of a file; None where there is none or it is damaged, with a warning.

    Args:
        path: As `write` got it: a file that was renamed is not believed either.
        kind: Type of the value, such as `list[str]`; a value of another type is damage.
    """
    body = read_bytes(path)
    try:
        value = None if body is None else parse_json(body, str(path))
        return None if value is None else TypeAdapter(kind).validate_python(value)
    except BadFile as error:
        damaged(path, error.why)
    except ValidationError:
        damaged(path, "it holds something else")
    return None


def write(path: Path, value: Any) -> None:
    """Write a JSON value with its seal; a cache that cannot be written is a warning."""
    write_bytes(path, json.dumps(value).encode())


def read_bytes(path: Path) -> bytes | None:
    """Return what a file holds without its seal; None as for `read`."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None  # writing it anew says what is wrong with the folder
    except OSError as error:
        damaged(path, f"it cannot be read ({error.strerror or error})")
        return None
    body = data[:-_LENGTH]
    if data != sealed(path.name, body):
        damaged(path, "it was cut" if not _SEAL.search(data[-_LENGTH:]) else "it was changed")
        return None
    return body


def write_bytes(path: Path, body: bytes) -> bool:
    """Write bytes with their seal; return True unless the cache cannot be written."""
    return keep(path, sealed(path.name, body))


def sealed(name: str, body: bytes) -> bytes:
    """Return bytes with the seal that they have in a file of this name."""
    digest = hashlib.sha256(name.encode() + b"\n" + body).hexdigest()
    return body + f"\nmoebench-seal {len(body):016d} {digest}\n".encode()


def damaged(path: Path, why: str) -> None:
    """Warn that a file of the cache is passed over; the caller makes it again."""
    _log.warning("%s: %s; it is made again", path, why)
