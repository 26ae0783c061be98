"""Digests that results hold of themselves: what was changed since it was written is not believed.

The digest is that of the canonical JSON (keys sorted, no blanks, UTF-8) of an object without the
digest itself. This never changes, so that a record of a newer moebench is told from a damaged one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

KEY = "sha256"
"""Key under which an object holds its digest."""


def digest(values: Mapping[str, Any]) -> str:
    """Return the digest of an object of JSON, 64 hexadecimal digits."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # A name of a file that is no UTF-8 reaches a reason as lone surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with its digest as its last key."""
    return {**values, KEY: digest(values)}


def unsealed(values: Mapping[str, Any]) -> tuple[dict[str, Any], bool | None]:
    """Return an object without its digest, and True where the digest is right; None without one."""
    rest = {key: value for key, value in values.items() if key != KEY}
    return rest, values[KEY] == digest(rest) if KEY in values else None


def digest_of_lines(lines: Sequence[bytes]) -> str | None:
    """Return the digest of lines, a line break after each; None where there are none."""
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest() if lines else None
