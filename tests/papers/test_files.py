"""A file about a paper that is not well-formed is one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.papers.published import load

FILE = """
[paper]
title = "A Paper"
authors = ["A. Author"]
year = 2024
venue = "A Venue"
arxiv = "2401.00001"
tasks = ["rte"]
protocol = "unknown"

[models]
small = "A small model"

[methods]
P = "pruning"

[columns]
RTE = { metric = "acc", unit = "%", task = "rte" }

[[tables]]
key = "one"
title = "Only one number"
columns = ["model", "method", "RTE"]
rows = [["small", "P", 50.0]]
errata = [
    { row = { model = "small", method = "P" }, column = "RTE", printed = 50.0, corrected = 5.0, reason = "a slip" },
]
"""  # noqa: E501

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(old: str, new: str) -> Path:
        assert old in FILE
        (tmp_path / "paper.toml").write_text(FILE.replace(old, new), "utf-8")
        return tmp_path

    return write


def test_the_file_itself_is_well_formed(write: Write) -> None:
    table = load("paper", write("", ""))["paper.one"]
    assert str(table.rows[0].printed["RTE"]) == "50.0"
    assert str(table.rows[0].corrected["RTE"]) == "5.0"
    assert table.models == {"small": "A small model"}
    assert table.protocol == "unknown"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[paper]", "[paper", "paper.toml:"),
        ("year = 2024\n", "", "paper.year: 'year' is missing."),
        ('arxiv = "2401.00001"', 'arxiv = "2401"', "paper.arxiv: "),
        ('metric = "acc"', 'metric = "accuracy"', "metric: "),
        ('title = "Only one number"', 'name = "x"', "tables.0.title: "),
        ('["small", "P", 50.0]', '["small", "P"]', "one cell for each of 3"),
        ('["model", "method", "RTE"]', '["method", "model", "RTE"]', "start with model and method"),
        ('["small", "P", 50.0]', '["small", "P", "fifty"]', "'fifty' is no number"),
        ('["small", "P", 50.0]', '["smal", "P", 50.0]', "unknown model 'smal'. Did you mean"),
        ('["small", "P", 50.0]', '["small", "Q", 50.0]', "unknown method 'Q'"),
        ('"method", "RTE"]', '"method", "RTA"]', "unknown column 'RTA'"),
        ("printed = 50.0", "printed = 51.0", "names no one row that prints 51.0"),
        ("printed = 50.0", "printed = 51.0", "erratum about small P, RTE"),
    ],
)
def test_faults_are_named(write: Write, old: str, new: str, sentence: str) -> None:
    folder = write(old, new)
    with pytest.raises(UserError) as error:
        load("paper", folder)
    assert sentence in str(error.value)
    assert "paper.toml" in str(error.value)


def test_an_unknown_paper_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown paper 'moe-i'. Did you mean 'moe-i2'\?"):
        load("moe-i")
