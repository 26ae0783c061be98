"""The cache shown, cleared and swept: its own files only, and never under a command that runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cache import sealed, upkeep
from harness.cli.app import app
from harness.disk import scratch
from harness.errors import UserError
from tests.disks import make_read_only

DIGEST = "ab" * 32
DAYS = 24 * 3600


@pytest.fixture
def filled(folder: Path) -> Path:
    """A cache of one file of each kind, and things beside them that are none of its own."""
    sealed.write(folder / "archives" / DIGEST, ["x"])
    sealed.write(folder / "code" / f"{DIGEST[:16]}.json", {})
    sealed.write(folder / "hashes" / DIGEST, "x")
    sealed.write(folder / "kernels" / f"int4-{DIGEST[:16]}.so", "x")
    sealed.write(folder / "statistics" / "ab" / f"{DIGEST}.sealed", "x")
    sealed.write(folder / "tokens" / f"{DIGEST}.safetensors", "x")
    sealed.write(folder / "peers" / "gptqmodel-12.log", "x")
    for foreign in ("peers/gptqmodel/bin/python", "code/mine.py", "notes", "tokens/mine.txt"):
        (folder / foreign).parent.mkdir(parents=True, exist_ok=True)
        (folder / foreign).write_text("mine")
    return folder


def all_files(folder: Path) -> set[str]:
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return names - {".lock"}


def cache(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["cache", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_it_shows_what_there_is_by_kind(filled: Path) -> None:
    code, shown, _ = cache()
    lines = shown.splitlines()
    assert (code, lines[0]) == (0, str(filled))
    assert [line.split()[:2] for line in lines[2:-1]] == [[kind, "1"] for kind in upkeep.KINDS]
    assert lines[-1].split()[:2] == ["all", "7"]
    assert "0 days ago" in lines[2]


def test_clearing_leaves_tokens_interpreters_and_what_is_not_its_own(filled: Path) -> None:
    assert cache("--clear")[0] == 0
    mine = {"peers/gptqmodel/bin/python", "code/mine.py", "notes", "tokens/mine.txt"}
    assert all_files(filled) == {*mine, f"tokens/{DIGEST}.safetensors"}
    assert cache("--clear", "--kind", "tokens")[0] == 0
    assert all_files(filled) == mine


def test_clearing_by_kind_and_age(filled: Path) -> None:
    before = all_files(filled)
    old = time.time() - 3 * DAYS
    os.utime(filled / "hashes" / DIGEST, (old, old))
    assert "Deleted 0 files" in cache("--clear", "--kind", "archives", "--older", "2")[2]
    assert "Deleted 1 files" in cache("--clear", "--older", "2")[2]
    assert all_files(filled) == before - {f"hashes/{DIGEST}"}
    assert cache("--kind", "archive")[::2] == (
        2,
        "moebench: --kind: unknown kind 'archive'. Did you mean 'archives'? "
        "Known: archives, code, hashes, kernels, peers, statistics, tokens.\n",
    )


def test_nothing_is_deleted_through_a_link(filled: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (filled / "hashes").rename(outside)
    (filled / "hashes").symlink_to(outside)
    (filled / "statistics" / "cd").symlink_to(outside)
    cache("--clear")
    assert (outside / DIGEST).exists()


def test_it_is_not_cleared_under_a_command_that_uses_it(filled: Path) -> None:
    script = (
        "import sys; from harness.cache.upkeep import in_use\n"
        "with in_use(): print('in', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"in\n"
        before = all_files(filled)
        with upkeep.in_use():  # several may use it at once
            pass
        assert cache("--clear") == (
            2,
            "",
            f"moebench: {filled}: another moebench is using the cache; wait for it.\n",
        )
        assert all_files(filled) == before
        other.kill()
    assert cache("--clear")[0] == 0


def test_what_a_killed_writer_left_is_swept(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(scratch, "_start", lambda pid: 1)  # of another, earlier process
        left = [scratch.beside(filled / place) for place in ("hashes/x", "statistics/ab/y", "z")]
    for path in left:
        path.touch()
    with upkeep.in_use():
        assert not any(path.exists() for path in left)


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_read_only(filled, monkeypatch)
    with upkeep.in_use():
        pass
    assert cache()[0] == 0
    with pytest.raises(UserError, match=r"cannot be deleted \(Read-only file system\)"):
        upkeep.clear()


def test_an_empty_cache(folder: Path) -> None:
    assert "all                 0" in cache()[1]
    assert "Deleted 0 files" in cache("--clear")[2]
    assert not folder.exists()
