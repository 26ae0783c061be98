"""Packages of the same name that somebody else installed are noticed before they do harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.process import owners
from harness.errors import UserError


def test_ours_are_ours() -> None:
    owners.refuse_foreign_packages()


def test_a_foreign_package_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "__init__.py").write_text("")
    about = tmp_path / "other-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (about / "top_level.txt").write_text("methods\n")
    monkeypatch.setattr(
        owners,
        "location",
        lambda name: (tmp_path / name) if name == "methods" else owners_location(name),
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"'methods' in .* belongs to the distribution 'other'"):
        owners.refuse_foreign_packages()


owners_location = owners.location


def test_an_overwritten_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class File:
        hash = type("Hash", (), {"mode": "sha256", "value": "other"})

        def __str__(self) -> str:
            return "suites/__init__.py"

    class Distribution:
        files = (File(),)

    monkeypatch.setattr(owners, "distribution", lambda name: Distribution)
    home = Path(owners.__file__).parents[3]
    assert owners.overwritten(home) == ["suites"]
    with pytest.raises(UserError, match="'suites'"):
        owners.refuse_foreign_packages()


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "location", lambda name: None)
    with pytest.raises(UserError, match="Install moebench again"):
        owners.refuse_foreign_packages()
