"""Fixtures of this room: packages on Python's path that no test imports, and what they reach."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from harness.code import modules
from harness.code.library import Library
from harness.code.reach import Reach

Code = Mapping[str, str]

SCALE = "def scale(x):\n    return 2 * x\n\n\ndef other(x):\n    return 3 * x\n"
"""Two functions: one that is reached, and one beside it."""
ANOTHER = SCALE.replace("2 * x", "-2 * x")
"""The first is another."""


class Project:
    """Modules in a folder on Python's path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, files: Mapping[str, str]) -> None:
        """Write files, their text without its indentation."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        modules.is_library.cache_clear()

    def code(self, *entries: str) -> Code:
        """Return what definitions reach now; each is given as `module:name`."""
        pairs = [(module, name) for module, _, name in (one.partition(":") for one in entries)]
        return Reach(Library()).code(*pairs)

    def changed(self, change: Mapping[str, str], entry: str) -> list[str]:
        """Return the modules whose digests a change of files changes for an entry."""
        before = self.code(entry)
        self.write(change)
        after = self.code(entry)
        return sorted(
            module
            for module in before.keys() | after.keys()
            if before.get(module) != after.get(module)
        )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setenv("MOEBENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    folder.mkdir()
    loaded = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    yield Project(folder)
    for module in set(sys.modules) - loaded:  # of this folder, which is not the next test's
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(folder)):
            del sys.modules[module]
    modules.is_library.cache_clear()
