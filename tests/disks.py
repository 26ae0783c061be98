"""Disks as they can be, for tests: folders that cannot be written. Permissions do not stop root."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


def make_read_only(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let every attempt of this process to write below a folder fail as on a read-only disk."""
    place = Path(os.path.realpath(folder))
    patch.setattr(io, "open", _opening(io.open, place))
    patch.setattr("builtins.open", io.open)
    patch.setattr(os, "open", _opening(os.open, place))
    for name in ("mkdir", "rmdir", "unlink", "replace", "rename", "utime"):
        patch.setattr(os, name, _changing(getattr(os, name), place))


def _refuse(path: object, place: Path) -> None:
    if isinstance(path, (str, os.PathLike)):
        real = Path(os.path.realpath(path))
        if real == place or place in real.parents:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


def _opening(call: Call, place: Path) -> Call:
    def open_(path: Any, how: Any = "r", *more: Any, **options: Any) -> Any:
        low = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if how & low if isinstance(how, int) else set(how) & set("wax+"):
            _refuse(path, place)
        return call(path, how, *more, **options)

    return open_


def _changing(call: Call, place: Path) -> Call:
    def change(path: Any, *more: Any, **options: Any) -> Any:
        for one in (path, *more[:1]):  # the second is where it is renamed to
            _refuse(one, place)
        return call(path, *more, **options)

    return change
