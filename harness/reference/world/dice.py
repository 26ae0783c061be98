"""Seeded random generators: the only source of chance in the synthetic world."""

from __future__ import annotations

import random


def dice(*seed: int | str) -> random.Random:
    """A generator that depends on `seed` alone (equal on every machine and in every process)."""
    return random.Random("/".join(map(str, seed)))  # noqa: S311  (no cryptography here)
