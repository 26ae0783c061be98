from __future__ import annotations

from pathlib import Path

import pytest

from harness import places, reference


def test_embedded_data_that_change_are_noticed_in_the_same_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "DATA", tmp_path)
    (tmp_path / "text").write_text("one")
    before = places.data_identity(tmp_path)
    (tmp_path / "text").write_text("two")
    assert places.data_identity(tmp_path) != before
    assert places.data_identity(None) == ""
