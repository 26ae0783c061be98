"""Where moebench keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$MOEBENCH_CACHE`, or `moebench` in the user's cache folder. Not created here."""
    given = os.environ.get("MOEBENCH_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moebench"
