"""Source files are told from names without importing anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.code.modules import Unreadable, absolute, file_of, is_library
from tests.code.conftest import Project


@pytest.mark.parametrize(
    ("name", "file", "full"),
    [
        ("other", "inner.py", "other"),
        (".", "inner.py", "top.package"),
        (".other", "inner.py", "top.package.other"),
        ("..other", "inner.py", "top.other"),
        (".", "__init__.py", "top.package.inner"),
        (".other", "__init__.py", "top.package.inner.other"),
        ("..other", "__init__.py", "top.package.other"),
    ],
)
def test_dots_count_from_the_package(name: str, file: str, full: str) -> None:
    assert absolute(name, "top.package.inner", Path(file)) == full


@pytest.mark.parametrize(
    ("top", "library"),
    [("harness", False), ("methods", False), ("math", True), ("json", True), ("torch", True)],
)
def test_a_library_is_what_others_keep(top: str, library: bool) -> None:
    assert is_library(top) is library


def test_a_users_module_is_no_library(project: Project) -> None:
    project.write({"mine.py": "", "package/__init__.py": "", "folder/deep/inner.py": ""})
    assert not any(map(is_library, ("mine", "package", "folder")))
    assert is_library("absent_everywhere")


def test_folders_without_a_file_of_their_own(project: Project) -> None:
    project.write({"folder/deep/inner.py": "", "package/__init__.py": "", "package/data/a.py": ""})
    assert file_of("folder.deep.inner") == project.folder / "folder/deep/inner.py"
    assert file_of("package.data.a") == project.folder / "package/data/a.py"
    for folder in ("folder", "folder.deep", "package.data", "package.data.b", "package.absent.a"):
        with pytest.raises(Unreadable):
            file_of(folder)
