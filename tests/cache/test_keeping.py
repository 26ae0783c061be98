from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.cache.keeping import keep
from harness.disk.writing import is_full, obstacle, put
from harness.errors import UserError
from tests.cache.conftest import Spoil, warnings


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "file"
    put(path, b"before")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        put(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]


def test_a_cache_that_cannot_be_written_is_one_warning_per_process(
    folder: Path, spoil: Spoil, caplog: pytest.LogCaptureFixture
) -> None:
    spoil()
    assert not keep(folder / "one", b"1")
    assert not keep(folder / "two", b"2")
    [warning] = warnings(caplog)
    assert warning.startswith(f"{folder / 'one'}: cannot be written (")
    assert "MOEBENCH_CACHE" in warning


def test_an_obstacle_is_named_and_nothing_stays_of_looking_for_it(
    folder: Path, spoil: Spoil
) -> None:
    assert obstacle(folder) is None
    assert list(folder.iterdir()) == []
    folder.rmdir()
    spoil()
    assert obstacle(folder) in {
        os.strerror(number) for number in (errno.ENOSPC, errno.EEXIST, errno.EROFS)
    }


def test_a_full_disk_is_known_by_its_words_too() -> None:
    inner = RuntimeError("I/O error: No space left on device (os error 28)")
    outer = UserError("the artifact cannot be written.")
    outer.__cause__ = inner
    assert is_full(outer)
    assert is_full(OSError(errno.EDQUOT, "quota"))
    assert not is_full(OSError(errno.EACCES, "no"))
