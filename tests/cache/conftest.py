"""A cache folder for every test, its warnings, and disks on which nothing can be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cache import keeping

Spoil = Callable[[], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, not yet made, of a process that has not warned yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MOEBENCH_CACHE", str(folder))
    monkeypatch.setattr(keeping, "_warned", False)
    return folder


@pytest.fixture(params=["full", "a file", "read only"])
def spoil(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Make the cache one that cannot be written, in one of the ways there are."""

    def failing(number: int) -> Callable[..., None]:
        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        return fail

    def do() -> None:
        if request.param == "a file":
            folder.write_text("not a folder")
        elif request.param == "full":
            monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
        else:  # permissions do not stop root
            monkeypatch.setattr(Path, "replace", failing(errno.EROFS))

    return do


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the harness's own loggers have warned of."""
    return [r.getMessage() for r in caplog.records if r.name.startswith("harness.")]
