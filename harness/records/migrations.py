"""Records of older formats, made into records of today's, one format at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.records.record import FORMAT, UNKNOWN

Values = dict[str, Any]
"""A record as JSON has it; of damaged ones any value may be of another type."""


def migrated(values: Values, format_: int) -> Values:
    """Return a record of an older format in today's, `FORMAT`."""
    for number in range(format_, FORMAT):
        values = MIGRATIONS[number](values)
    return values


def _without_digests(values: Values) -> Values:
    """Format 1 kept no digest of items, and the source of a method in place of all code behind it.

    Its first records called the text of a perplexity its protocol.
    """
    changed = {**values, "format": 2, "items_sha256": UNKNOWN}
    steps, texts = values.get("recipe"), values.get("perplexity")
    if isinstance(steps, list):
        changed["recipe"] = [_renamed(step, {"source": None}) for step in steps]
    if isinstance(texts, dict):
        changed["perplexity"] = {
            name: _renamed(result, {"protocol": "text"}) for name, result in texts.items()
        }
    return changed


def _renamed(values: object, names: Mapping[str, str | None]) -> object:
    """An object under new names; what has None for a name is left out."""
    if not isinstance(values, dict):
        return values
    pairs = ((names.get(key, key), value) for key, value in values.items())
    return {key: value for key, value in pairs if key is not None}


MIGRATIONS: Mapping[int, Callable[[Values], Values]] = {1: _without_digests}
"""Function that makes a record of a format into one of the next, by the older format's number."""
