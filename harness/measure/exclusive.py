"""One measuring process at a time on a machine."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.disk import scratch
from harness.disk.writing import no_space

logger = logging.getLogger(__name__)


def lock_file() -> Path:
    """The user's lock file, in the system's folder for temporary files.

    Raises:
        UserError: there is no such folder.
    """
    return scratch.temporary() / f"moebench-{os.getuid()}.lock"


@contextmanager
def exclusive() -> Iterator[None]:
    """Wait until no other moebench process of this user measures, and keep others waiting.

    The kernel drops the lock when the process ends, however it ends. Not reentrant: a second
    `exclusive()` inside the first waits for ever. Other people's processes are not kept away.

    Raises:
        UserError: the lock file cannot be opened.
    """
    # No symbolic link is followed: the folder is open to all users.
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with no_space(lock_file()):
        handle = os.open(lock_file(), flags, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another moebench process is measuring; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
