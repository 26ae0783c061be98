"""The library: what it remembers of a file is what the file says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.code import library
from harness.code.library import Library
from harness.code.outline import as_json, outline
from tests.code.conftest import Project

TEXT = "from math import pi\n\ndef area(radius):\n    return pi * radius**2\n"


@pytest.fixture
def settled(project: Project) -> Project:
    project.write({"circle.py": TEXT})
    _age(project.folder / "circle.py")
    return project


def _age(file: Path) -> None:
    """Wait until a change of the file would show in its times."""
    os.utime(file, ns=(1, 1))
    time.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cache.notes.SETTLED", 10**6)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []

    def reading(file: Path, module: str) -> object:
        read.append(module)
        return outline(file, module)

    monkeypatch.setattr(library, "outline", reading)
    return read


def test_a_second_process_reads_nothing(settled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    read = counted(monkeypatch)
    first = Library()
    before = as_json(first.outline("circle"))
    first.keep()
    assert read == ["circle"]
    second = Library()
    again = as_json(second.outline("circle"))
    assert read == ["circle"]
    assert repr(again) == repr(before)


def test_a_changed_file_is_read_again(settled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Library()
    before = first.digest("circle", "area")
    first.keep()
    settled.write({"circle.py": TEXT.replace("**2", "**3")})  # of the same size
    assert Library().digest("circle", "area") != before
    settled.write({"circle.py": TEXT})
    assert Library().digest("circle", "area") == before


def test_a_file_that_has_just_changed_is_not_remembered(
    settled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cache.notes.SETTLED", 10**12)
    read = counted(monkeypatch)
    for _ in range(2):
        one = Library()
        one.outline("circle")
        one.keep()
    assert read == ["circle", "circle"]


def test_another_text_is_not_remembered(settled: Project) -> None:
    other = Library({"circle": TEXT.replace("**2", "**3").encode()})
    mutated = other.digest("circle", "area")
    other.keep()
    assert Library().digest("circle", "area") != mutated
