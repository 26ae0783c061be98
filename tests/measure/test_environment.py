from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from harness.measure import environment as module
from harness.measure.environment import environment


def test_what_is_known_of_this_machine() -> None:
    described = environment()
    assert described.versions["torch"] == version("torch")
    assert described.versions["lm-eval"] == version("lm-eval")
    assert described.cores >= 1
    assert described.memory_bytes > 1 << 28
    assert described.threads == torch.get_num_threads()
    assert environment(threads=7).threads == 7
    assert (described.device, described.driver) == ("cpu", None)
    assert described.processor


def test_torch_is_not_imported() -> None:
    code = (
        "import sys; from harness.measure.environment import environment; environment(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_and_changes_of_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    described = environment()
    assert (described.commit, described.dirty) == (None, None)

    git(tmp_path, "init", "--quiet")
    file = tmp_path / "file"
    file.write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    (tmp_path / "result").write_text("untracked files change no code")
    described = environment()
    assert (described.commit, described.dirty) == (git(tmp_path, "rev-parse", "HEAD"), False)

    file.write_text("two")
    assert environment().dirty is True


def test_no_git_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    assert environment().commit is None  # a folder that git does not accept
    monkeypatch.setenv("PATH", "")
    assert environment().commit is None
