"""A file of the cache kept where that can be done, and one warning where it cannot."""

from __future__ import annotations

import logging
from pathlib import Path

from harness.disk.writing import put
from harness.places import cache_folder

_log = logging.getLogger(__name__)
_warned = False
"""True once this process has said that the cache cannot be written."""


def keep(path: Path, data: bytes) -> bool:
    """Write a file of the cache if that can be done; return True if it was.

    The cache spares work and decides nothing, so one that cannot be written is a warning, and one
    per process is enough.
    """
    global _warned
    home = cache_folder()
    try:
        put(path, data, below=home if path.is_relative_to(home) else None)
    except OSError as error:
        if not _warned:
            _warned = True
            _log.warning(
                "%s: cannot be written (%s); results stay right, but later runs do this work "
                "again; make room, or name another cache folder in MOEBENCH_CACHE",
                path,
                error.strerror or error,
            )
        return False
    return True
