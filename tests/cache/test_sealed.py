from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cache import sealed
from tests.cache import damage
from tests.cache.conftest import Spoil, warnings
from tests.cache.damage import Damage

VALUE = {"a": [1, 2.5, None], "b": "text"}


@pytest.mark.parametrize("value", [VALUE, "f" * 64, [], 0])
def test_a_value_comes_back_and_nothing_is_said(
    value: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert sealed.read(folder / "one") is None
    sealed.write(folder / "one", value)
    assert sealed.read(folder / "one") == value
    assert warnings(caplog) == []


@pytest.mark.parametrize("harm", damage.ALL)
def test_a_damaged_file_is_one_warning_and_no_value(
    harm: Damage, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "one"
    sealed.write(path, VALUE)
    harm(path)
    assert sealed.read(path) is None
    [warning] = warnings(caplog)
    assert warning.startswith(f"{path}: ")
    assert warning.endswith("; it is made again")
    sealed.write(path, VALUE)
    assert sealed.read(path) == VALUE


def test_no_bit_of_a_file_can_turn_unseen(folder: Path) -> None:
    path = folder / "one"
    sealed.write(path, VALUE)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            path.write_bytes(data)
            assert sealed.read(path) is None


def test_a_file_under_another_name_is_not_believed(folder: Path) -> None:
    sealed.write(folder / "one", VALUE)
    (folder / "one").rename(folder / "two")
    assert sealed.read(folder / "two") is None


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_in_the_place_of_one_is_named_and_not_waited_at(
    put: Callable[[Path], None], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(parents=True)
    put(folder / "one")
    assert sealed.read(folder / "one") is None
    [warning] = warnings(caplog)
    assert "it is no file" in warning


def test_a_cache_that_cannot_be_written_has_nothing_and_fails_nothing(
    folder: Path, spoil: Spoil, caplog: pytest.LogCaptureFixture
) -> None:
    spoil()
    for name in ("one", "two"):
        assert sealed.read(folder / name) is None
        sealed.write(folder / name, VALUE)
        assert sealed.read(folder / name) is None
    assert len(warnings(caplog)) == 1
