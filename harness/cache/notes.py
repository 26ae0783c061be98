"""Hashes of files, taken once: each is noted under everything by which its file can be told."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from stat import S_ISREG

from harness.cache import sealed
from harness.errors import UserError
from harness.places import cache_folder

SETTLED = 2 * 10**9
"""Nanoseconds without a change after which a file's next change shows in its times.

Times of files advance in steps, of some milliseconds on most file systems and of up to two seconds
on the coarsest. A file that is written, hashed and written again within one step keeps its size and
all its times, and a note on the first content would be believed for the second. So no note is taken
on a file that changed less than this before the hash was begun: it is hashed again next time, and
noted then. What changes afterwards gets a later `ctime`, which nobody can set back as one can the
`mtime`; the `mtime` is looked at as well for file systems that have no true `ctime`.
"""
_CHUNK = 2**24
_TRIES = 3
_DIGEST = re.compile(r"[0-9a-f]{64}")


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, hex, from a note where there is one that holds.

    Raises:
        UserError: the file cannot be read, or changes all the time.
    """
    try:
        for _ in range(_TRIES):
            digest = _attempt(path)
            if digest is not None:
                return digest
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None
    raise UserError(f"{path}: changes while it is read; start again when it is complete.")


def _attempt(path: Path) -> str | None:
    """Return the file's hash; None where the file changed while it was taken."""
    now = time.time_ns()
    before = path.stat()
    if not S_ISREG(before.st_mode):  # a pipe would be waited at
        raise UserError(f"{path}: is no file.")
    note = _note(path, before)
    value = sealed.read(note)
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value
    if value is not None:
        sealed.damaged(note, "it holds no hash")
    digest = _taken(path)
    if stamp(path.stat()) != stamp(before):
        return None
    if settled(before, now):
        sealed.write(note, digest)
    return digest


def settled(stat: os.stat_result, now: int) -> bool:
    """Return True if a file has not changed for so long that its next change shows in its times.

    Args:
        stat: The file's facts.
        now: The time before they were taken, nanoseconds.
    """
    return now - max(stat.st_mtime_ns, stat.st_ctime_ns) >= SETTLED


def _taken(path: Path) -> str:
    content = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            content.update(chunk)
    return content.hexdigest()


def _note(path: Path, stat: os.stat_result) -> Path:
    facts = os.fsencode(f"{path.resolve()} {stamp(stat)}")
    return cache_folder() / "hashes" / hashlib.sha256(facts).hexdigest()


def stamp(stat: os.stat_result) -> str:
    """Return the facts by which a file is told, beside its place."""
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino} {stat.st_dev}"
