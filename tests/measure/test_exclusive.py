from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.measure.exclusive import exclusive

OTHER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from harness.measure.exclusive import exclusive
print("ready", flush=True)
with exclusive():
    print("measuring", flush=True)
"""


def test_two_processes_never_measure_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command = [sys.executable, "-c", OTHER, str(tmp_path)]
    with exclusive():
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=0.3)
    out, _ = other.communicate(timeout=30)
    assert out == "measuring\n"
    assert other.returncode == 0


def test_the_lock_is_free_again_after_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="inside"), exclusive():
        raise ValueError("inside")
    with exclusive():
        assert [file.stat().st_mode & 0o777 for file in tmp_path.iterdir()] == [0o600]
