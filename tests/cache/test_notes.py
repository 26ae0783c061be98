"""The hash of a file is that of its content, whatever the cache says."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cache import notes, sealed
from harness.cache.notes import file_sha256
from harness.errors import UserError
from harness.model.checkpoint import checkpoint_sha256
from tests.cache import damage
from tests.cache.conftest import Spoil, warnings
from tests.cache.damage import Damage


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take notes on files that were just written, too: the tests wait for the clock themselves."""
    monkeypatch.setattr(notes, "SETTLED", -(10**12))


@pytest.fixture
def file(tmp_path: Path, folder: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    return path


def sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def kept(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def rewrite(path: Path, content: bytes) -> None:
    """Put other content into a file, in a later step of the clock, and set its mtime back."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.usefixtures("settled")
def test_a_file_is_hashed_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_sha256(file) == sha256(b"first")
    monkeypatch.setattr(notes, "_taken", None)
    assert file_sha256(file) == sha256(b"first")
    link = file.with_name("link")
    link.symlink_to(file)
    assert file_sha256(link) == sha256(b"first")


@pytest.mark.usefixtures("settled")
def test_other_content_of_the_same_size_and_mtime_is_noticed(file: Path) -> None:
    assert file_sha256(file) == sha256(b"first")
    rewrite(file, b"other")
    assert file_sha256(file) == sha256(b"other")


@pytest.mark.usefixtures("settled")
def test_a_file_put_in_the_place_of_another_is_noticed(file: Path) -> None:
    before = file.stat()
    assert file_sha256(file) == sha256(b"first")
    other = file.with_name("other")
    other.write_bytes(b"other")
    shutil.copystat(file, other)
    other.replace(file)
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert file_sha256(file) == sha256(b"other")


def test_a_file_that_changes_within_one_step_of_the_clock_is_noticed(file: Path) -> None:
    """On most file systems some of these contents have all their times in common."""
    before = file.stat()
    for number in range(300):
        content = f"{number:05}".encode()
        with file.open("r+b") as stream:
            stream.write(content)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert file_sha256(file) == sha256(content)


def test_no_note_is_taken_on_a_file_that_may_still_change_unseen(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_sha256(file)
    assert list(kept(folder)) == []
    later = time.time_ns() + 3 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    file_sha256(file)
    assert len(list(kept(folder))) == 1


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("harm", damage.ALL)
def test_a_damaged_note_is_taken_again_with_one_warning(
    harm: Damage, file: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file_sha256(file)
    [note] = kept(folder)
    harm(note)
    assert file_sha256(file) == sha256(b"first")
    assert len(warnings(caplog)) == 1
    assert str(note) in warnings(caplog)[0]
    assert file_sha256(file) == sha256(b"first")
    assert len(warnings(caplog)) == 1


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("value", ["", "f" * 63, "f" * 65, "F" * 64, f"{'f' * 64}\n", 7, {}])
def test_a_note_that_is_no_hash_is_taken_again(
    value: object, file: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file_sha256(file)
    [note] = kept(folder)
    sealed.write(note, value)
    assert file_sha256(file) == sha256(b"first")
    assert warnings(caplog) == [f"{note}: it holds no hash; it is made again"]
    assert sealed.read(note) == sha256(b"first")


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("harm", damage.ALL)
def test_two_models_stay_two_whatever_becomes_of_their_notes(
    harm: Damage, tmp_path: Path, folder: Path
) -> None:
    models = [tmp_path / "one", tmp_path / "two"]
    for model in models:
        model.mkdir()
        (model / "config.json").write_text("{}")
        (model / "model.safetensors").write_text(f"weights of {model.name}")
    before = [checkpoint_sha256(model) for model in models]
    for note in kept(folder):
        harm(note)
    assert [checkpoint_sha256(model) for model in models] == before
    assert before[0] != before[1]


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_written_costs_no_hash_and_warns_once(
    file: Path, spoil: Spoil, caplog: pytest.LogCaptureFixture
) -> None:
    spoil()
    other = file.with_name("other")
    other.write_bytes(b"second")
    for _ in range(2):
        assert file_sha256(file) == sha256(b"first")
        assert file_sha256(other) == sha256(b"second")
    assert len(warnings(caplog)) == 1


@pytest.mark.usefixtures("settled")
def test_a_file_that_changes_while_it_is_read_is_read_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, contents = notes._taken, [b"a second", b"a third one"]

    def changing(path: Path) -> str:
        digest = taken(path)
        if contents:
            path.write_bytes(contents.pop(0))
        return digest

    monkeypatch.setattr(notes, "_taken", changing)
    assert file_sha256(file) == sha256(b"a third one")
    file.write_bytes(b"another")
    contents += [b"1", b"22", b"333"]
    with pytest.raises(UserError, match="file: changes while it is read"):
        file_sha256(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"absent: cannot be read \(No such file or directory\)\."):
        file_sha256(tmp_path / "absent")
