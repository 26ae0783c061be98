"""Symbolic links below a folder that the user named: nothing is written or deleted through one.

The folder itself may be a link, to another disk say; what lies in it may come from somebody else.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path


def check(path: Path, below: Path) -> None:
    """See that no folder on the way to a file is a symbolic link.

    Args:
        path: The file that is about to be written by renaming, which replaces a link.
        below: The folder that the user named.

    Raises:
        OSError: one is; the reason names it.
    """
    place = below
    for part in path.relative_to(below).parts[:-1]:
        place = place / part
        if place.is_symlink():
            raise _linked(place)


def clear(path: Path) -> None:
    """Delete a folder with all in it; of a link, the link. Nothing happens where there is none."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def open_own(path: Path) -> int:
    """Return a handle on a file to read and write, which is made where there is none.

    Raises:
        OSError: a link, a pipe or another name of a file elsewhere stands in its place.
    """
    # A pipe would be waited for; O_NONBLOCK means nothing to files.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, "it is a symbolic link; delete it", str(path)) from None
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file of its own; delete it", str(path))
    return handle


def _linked(link: Path) -> OSError:
    reason = f"{link} is a symbolic link, and nothing is written through one; put a folder there"
    return OSError(errno.ELOOP, reason, str(link))
