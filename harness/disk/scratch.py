"""Scratch files and folders, named after the process that makes them and swept once it is dead.

A name is `.WHAT.moebench-HOST-PID-START-RANDOM.tmp`. HOST stands for the system's boot and the
container, inside which the process number PID is that of one process at a time; with START, the
time at which it began, it is that of one process for ever.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError

OLD = 7 * 24 * 3600.0
"""Seconds without a change after which what another host made, or another boot, is swept too."""
_NAME = re.compile(r"\..*\.moebench-([0-9a-f]{8})-([0-9]+)-([0-9]+)-[0-9a-f]{8}\.tmp", re.DOTALL)
_LONGEST = 150  # bytes of WHAT: names of files have 255
_made: set[Path] = set()


def beside(path: Path) -> Path:
    """Return the hidden name beside a path under which this process makes what is to be there."""
    what = os.fsencode(path.name)[:_LONGEST].decode(errors="ignore")
    pid = os.getpid()
    owner = f"{_host()}-{pid}-{_start(pid) or 0}-{os.urandom(4).hex()}"
    return path.with_name(f".{what}.moebench-{owner}.tmp")


def new(parent: Path | None = None, what: str = "scratch") -> Path:
    """Make an empty folder, once what dead processes left beside it is swept.

    Args:
        parent: Folder that it is in, which is made; None for the system's temporary folder.
        what: Beginning of its name.

    Raises:
        OSError: it cannot be made in `parent`.
        UserError: it cannot be made in the system's temporary folder.
    """
    place = temporary() if parent is None else parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        sweep(place)
        folder = beside(place / what)
        folder.mkdir(mode=0o700)
    except OSError as error:
        if parent is None:
            raise _unusable(str(place), error) from None
        raise
    _made.add(folder)
    return folder


@contextlib.contextmanager
def folder(parent: Path | None = None, what: str = "scratch") -> Iterator[Path]:
    """Yield an empty folder, which is deleted when the block ends.

    Raises:
        OSError: as for `new`, like the next.
        UserError: there is no temporary folder that can be written.
    """
    path = new(parent, what)
    try:
        yield path
    finally:
        delete(path)


def delete(path: Path) -> None:
    """Delete a folder of this process, or what of it can be deleted."""
    shutil.rmtree(path, ignore_errors=True)
    _made.discard(path)


def tidy() -> None:
    """Delete all folders that this process has made; for a process that ends without `atexit`."""
    for path in list(_made):
        if f"-{os.getpid()}-" in path.name:  # else of the process that this one was forked from
            delete(path)


def temporary() -> Path:
    """Return the system's temporary folder, which TMPDIR names.

    Raises:
        UserError: there is none that can be written.
    """
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise _unusable(os.environ.get("TMPDIR", "/tmp"), error) from None  # noqa: S108


def sweep(folder: Path, *, deep: bool = False) -> None:
    """Delete what dead processes of this user left in a folder; what cannot be deleted stays.

    No link is followed, and nothing is deleted that a living process made. What was made on another
    host, which cannot be asked, is deleted after a week.

    Args:
        folder: The folder; nothing happens where there is none.
        deep: Sweep the folders in it too, at any depth.
    """
    for place, inner, files in os.walk(folder, followlinks=False):
        left = {name for name in (*inner, *files) if _is_left(Path(place) / name)}
        for name in left:
            path = Path(place) / name
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
        inner[:] = [name for name in inner if deep and name not in left]


def _is_left(path: Path) -> bool:
    told = _NAME.fullmatch(path.name)
    if told is None:
        return False
    try:
        facts = path.lstat()
    except OSError:
        return False
    if path.is_symlink() or facts.st_uid != os.getuid():
        return False
    host, pid, start = told.groups()
    if host != _host():
        return time.time() - facts.st_mtime > OLD
    return not _lives(int(pid), int(start))


def _lives(pid: int, start: int) -> bool:
    if start:
        return _start(pid) == start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user
        return True
    return True


def _start(pid: int) -> int | None:
    """The time at which a process began, in ticks since the boot; None if it is dead or unknown."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *facts = told.rpartition(")")[2].split()  # a program's name may hold brackets
    return None if state in "ZX" else int(facts[18])


@functools.cache
def _host() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        told = boot + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        told = platform.node()
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def _unusable(place: str, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(
        f"{place}: no temporary folder can be made ({reason}); set TMPDIR to a folder that can be "
        "written."
    )
