"""Two methods given as files, each with a helper of the same name beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.code.reach import Reach
from harness.errors import UserError
from harness.method import registry

METHOD = """
import sys
sys.path.insert(0, {folder!r})
from twin_helper import order
from harness.method import Method
class Mine(Method):
    name = "mine"
    reference = "none"
    def compress(self, model, calibration):
        yield from order()
"""


def test_they_are_refused_since_one_process_has_but_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "twin_helper", raising=False)
    entries: list[tuple[str, str]] = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "mine.py").write_text(METHOD.format(folder=str(folder)))
        (folder / "twin_helper.py").write_text(f"def order(): return '{name}'\n")
        entries += registry.code_of(registry.method(f"{folder / 'mine.py'}:Mine"))
        if name == "a":
            assert "twin_helper" in Reach().code(*entries)
    with pytest.raises(UserError, match=r"two modules are named 'twin_helper': .*; rename one"):
        Reach().code(*entries)
