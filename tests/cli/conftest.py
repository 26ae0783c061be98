"""`moebench` as users start it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def moebench(tmp_path: Path) -> Run:
    """Run the console script in an empty folder."""
    script = Path(sys.executable).with_name("moebench")

    def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(script), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd or tmp_path,
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"},
        )

    return run
