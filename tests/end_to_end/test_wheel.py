"""The numbers travel in the wheel and are found without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "harness", "methods", "suites")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves its folder where it runs."""
    pytest.importorskip("setuptools", "77")
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for name in SOURCES:
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=skipped)
        else:
            shutil.copy(path, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, str(source), "--wheel-dir", str(built)], check=True)
    (path,) = built.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_carries_the_files(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "harness",
        "methods",
        "suites",
        "moebench",
    }
    printed = {name for name in names if name.startswith("harness/papers/printed/")}
    assert printed == {
        f"harness/papers/printed/{file}"
        for file in ("SHA256SUMS", "c-moe.toml", "eep.toml", "moe-i2.toml")
    }


@pytest.mark.slow
def test_an_installed_wheel_finds_them_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    code = "import harness.papers.published as p; print(p.FOLDER, len(p.tables()))"
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert output.split() == [str(site / "harness" / "papers" / "printed"), "13"]
