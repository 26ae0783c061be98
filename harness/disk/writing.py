"""Files written whole: beside their place under a hidden name, flushed to the disk, renamed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from harness.disk import scratch
from harness.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_IN_RUST = f"os error {errno.ENOSPC}"


def put(path: Path, data: bytes) -> None:
    """Write a file so that it is either complete or absent; its folder is made.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    temporary = scratch.beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def probe(folder: Path) -> None:
    """Write a file into a folder, which is made, and delete it again.

    Raises:
        OSError: that cannot be done.
    """
    path = scratch.beside(folder / "probe")
    put(path, bytes(4096))
    path.unlink()


def obstacle(folder: Path) -> str | None:
    """Return the reason why a folder cannot be written, None where it can; it is made."""
    try:
        probe(folder)
    except OSError as error:
        return error.strerror or str(error)
    return None


@contextlib.contextmanager
def no_space(path: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into one sentence."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full(path) from None
        raise UserError(f"{path}: cannot be written: {error.strerror or error}.") from None


def is_full(error: BaseException) -> bool:
    """Return True if an error, or its cause, says that the disk is full."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    if _FULL_IN_RUST in str(error):  # safetensors says it in words only
        return True
    return error.__cause__ is not None and is_full(error.__cause__)


def full(path: Path) -> UserError:
    """Return the sentence for a full disk."""
    return UserError(
        f"{path}: no space left on the device. Make room and start the same command again: "
        "finished cells are kept."
    )


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
