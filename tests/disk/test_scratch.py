"""Scratch files and folders: whose they are, and that only those of dead processes are swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from harness.disk import scratch
from harness.disk.writing import put
from harness.errors import UserError

LEFT = """
import os, signal, sys
from pathlib import Path
from harness.disk import scratch
place = Path(sys.argv[1])
folder = scratch.new(place)
(folder / "weights").write_bytes(bytes(1000))
scratch.beside(place / "record.json").write_text("half")
print("made", flush=True)
sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A folder in which a process was killed between making and renaming."""
    place = tmp_path / "place"
    other = subprocess.Popen(
        [sys.executable, "-c", LEFT, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"made\n"
        scratch.sweep(place)
        assert len(names(place)) == 2, "a living process's were swept"
        other.send_signal(signal.SIGKILL)
    return place


def test_what_a_killed_process_left_is_swept(left: Path) -> None:
    (left / ".hidden.tmp").touch()
    (left / ".out.moebench-notes.tmp").touch()
    mine = scratch.beside(left / "mine")
    mine.touch()
    scratch.sweep(left)
    assert names(left) == sorted([".hidden.tmp", ".out.moebench-notes.tmp", mine.name])


def test_making_something_new_sweeps_what_lies_beside_it(left: Path) -> None:
    with scratch.folder(left) as folder:
        assert names(left) == [folder.name]
    assert names(left) == []


def test_a_process_number_used_again_is_another_process(left: Path) -> None:
    [folder] = [path for path in left.iterdir() if path.is_dir()]
    mine = scratch.beside(left / "scratch").name.split("moebench-")[1].split("-")
    again = folder.name.replace(folder.name.split("-")[2], mine[1])
    folder.rename(left / again)  # this process's number, and another start
    scratch.sweep(left)
    assert names(left) == []


def test_another_hosts_is_left_for_a_week(left: Path) -> None:
    for path in left.iterdir():
        host = path.name.split("moebench-")[1][:8]
        path.rename(left / path.name.replace(f"moebench-{host}", "moebench-00000000"))
    scratch.sweep(left)
    assert len(names(left)) == 2
    old = time.time() - scratch.OLD - 60
    for path in left.iterdir():
        os.utime(path, (old, old))
    scratch.sweep(left)
    assert names(left) == []


def test_no_link_is_followed(left: Path, tmp_path: Path) -> None:
    [folder] = [path for path in left.iterdir() if path.is_dir()]
    for path in left.iterdir():
        path.rename(tmp_path / path.name.lstrip("."))
    outside = tmp_path / folder.name.lstrip(".")
    (left / folder.name).symlink_to(outside)  # named as the dead process's
    (tmp_path / "swept").mkdir()
    (tmp_path / "swept" / "inner").symlink_to(left)
    scratch.sweep(tmp_path / "swept", deep=True)
    scratch.sweep(left)
    assert names(left) == [folder.name]
    assert (outside / "weights").stat().st_size == 1000


def test_deep_sweeps_reach_folders_in_folders(left: Path, tmp_path: Path) -> None:
    scratch.sweep(tmp_path)
    assert len(names(left)) == 2
    scratch.sweep(tmp_path, deep=True)
    assert names(left) == []


def test_a_long_name_still_has_room_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120)
    put(path, b"whole")
    assert names(tmp_path) == [path.name]


def test_tidying_deletes_all_that_this_process_made(tmp_path: Path) -> None:
    made = [scratch.new(tmp_path, "one"), scratch.new(tmp_path, "two")]
    assert sorted(path.name for path in made) == names(tmp_path)
    scratch.tidy()
    assert names(tmp_path) == []


def test_a_temporary_folder_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(UserError, match=r"/proc/nowhere: no temporary folder .* set TMPDIR to"):
        scratch.new()

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(UserError, match="No usable temporary directory"):
        scratch.new()
