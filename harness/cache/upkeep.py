"""Upkeep of the cache folder: its kinds, their sizes, clearing them, and what dead processes left.

Only files that are named as the cache names them are counted and deleted, and no link is followed:
the folder may be one that its user has given more than the cache to hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.disk import scratch
from harness.errors import UserError
from harness.places import cache_folder

_HEX = "[0-9a-f]{64}"
KINDS = {
    "archives": re.compile(_HEX),
    "code": re.compile(r"[0-9a-f]{16}\.json"),
    "hashes": re.compile(_HEX),
    "kernels": re.compile(r"int4-[0-9a-f]{16}\.so"),
    "peers": re.compile(r"[a-z-]+-[0-9]+\.log"),
    "statistics": re.compile(r"[0-9a-f]+\.sealed"),
    "tokens": re.compile(_HEX + r"\.safetensors"),
}
"""Form of the names of files, by kind, which is also the name of their folder."""
NAMED = frozenset({"tokens"})
"""Kinds that are cleared only where they are named, since suites may name their files."""
_FOLDERS = re.compile("[0-9a-f]{2}")
_LOCK = ".lock"
_DAY = 24 * 3600.0


@dataclass(frozen=True)
class File:
    """A file of the cache."""

    kind: str
    path: Path
    bytes: int
    days: float
    """Days since it was written."""


def files(kinds: Collection[str] | None = None, *, older: float = 0.0) -> list[File]:
    """Return the files of the cache, of the given kinds (None: of all), in any order.

    Args:
        kinds: Names of kinds.
        older: Days that a file must be old at least.
    """
    now, told = time.time(), []
    for kind in KINDS if kinds is None else kinds:
        for path in _named(cache_folder() / kind, KINDS[kind]):
            with contextlib.suppress(OSError):
                facts = path.lstat()
                told.append(File(kind, path, facts.st_size, (now - facts.st_mtime) / _DAY))
    return [file for file in told if file.days >= older]


def clear(kinds: Collection[str] | None = None, *, older: float = 0.0) -> list[File]:
    """Delete files of the cache, and return those that were deleted.

    Args:
        kinds: Names of kinds; None for all that need not be named.
        older: As for `files`.

    Raises:
        UserError: a process is using the cache, or a file cannot be deleted.
    """
    chosen = [kind for kind in KINDS if kind not in NAMED] if kinds is None else kinds
    folder = cache_folder()
    if not folder.is_dir():
        return []
    deleted = []
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_locked(folder, fcntl.LOCK_EX))
            _sweep(folder)
            for file in files(chosen, older=older):
                file.path.unlink()
                deleted.append(file)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another moebench is using the cache; wait for it."
            ) from None
        except OSError as error:
            place = error.filename or folder
            raise UserError(f"{place}: cannot be deleted ({error.strerror or error}).") from None
    return deleted


@contextlib.contextmanager
def in_use() -> Iterator[None]:
    """Keep others from clearing the cache meanwhile, once what dead processes left is swept.

    What they left in the system's temporary folder is swept too. A cache that cannot be written
    cannot be cleared either, and is no reason not to go on.

    Raises:
        UserError: there is no temporary folder.
    """
    folder = cache_folder()
    scratch.sweep(scratch.temporary())
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(_locked(folder, fcntl.LOCK_SH))
            _sweep(folder)
        yield


@contextlib.contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    handle = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)  # and with it the lock


def _sweep(folder: Path) -> None:
    scratch.sweep(folder)
    for kind in KINDS:
        if not (folder / kind).is_symlink():
            # Interpreters of peers are deep folders, in which nothing of ours is made.
            scratch.sweep(folder / kind, deep=kind != "peers")


def _named(folder: Path, form: re.Pattern[str]) -> Iterator[Path]:
    """Yield the files of this form in a folder and in those in it that have two digits."""
    if folder.is_symlink():
        return
    for place, inner, names in os.walk(folder, followlinks=False):
        inner[:] = [name for name in inner if _FOLDERS.fullmatch(name)]
        yield from (Path(place) / name for name in names if form.fullmatch(name))
