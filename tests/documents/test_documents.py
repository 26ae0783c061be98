"""The pages hold what the records give; nothing measured stands outside of a region."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import ttest_1samp

from harness.report.publish import board_of
from harness.report.tables import render
from tests.documents import orders
from tests.documents.pages import PAGES, ROOT, fill, names, prose
from tests.documents.suites import store
from tests.documents.tables import TABLES

SUITES = sorted(path.parent.name for path in (ROOT / "results").glob("*/cells.json"))
MARKED = [page for page in PAGES if names(page.read_text(encoding="utf-8"))]
MEASURED = re.compile(r"\N{PLUS-MINUS SIGN} ?\d|\d\N{MULTIPLICATION SIGN}")
"""A spread or a speed-up: numbers that nobody chooses."""
PAGE = "a\n<!-- numbers: one -->\n{}\n<!-- end -->\nb\n"


@pytest.mark.parametrize("page", MARKED, ids=lambda page: page.name)
def test_a_page_is_what_the_records_give(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert fill(text, TABLES, where=page.name) == text, "run: python -m tests.documents --write"


def test_every_table_stands_on_one_page() -> None:
    used = Counter(name for page in PAGES for name in names(page.read_text(encoding="utf-8")))
    assert used == Counter(dict.fromkeys(TABLES, 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_spread_and_no_speed_up_stands_outside_of_a_region(page: Path) -> None:
    text = prose(page.read_text(encoding="utf-8"))
    assert MEASURED.findall(text) == []
    assert MEASURED.findall(f"{text}\n64.1 \N{PLUS-MINUS SIGN} 1.0") == ["\N{PLUS-MINUS SIGN} 1"]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("form", ["md", "csv"])
def test_a_leaderboard_in_the_repository_is_what_its_records_give(suite: str, form: str) -> None:
    path = ROOT / "results" / suite / f"leaderboard.{form}"
    assert render(board_of(store(suite)), form) == path.read_text(encoding="utf-8")


def test_a_changed_digit_is_written_again() -> None:
    tables = {"one": lambda: "1.55"}
    right = PAGE.format("\n1.55\n")
    assert fill(right, tables, where="p") == right
    assert fill(PAGE.format("\n1.56\n"), tables, where="p") == right
    assert fill(PAGE.format(""), tables, where="p") == right


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        (PAGE.replace("<!-- end -->", ""), "p.md: a region of numbers without its"),
        (PAGE.replace("<!-- numbers: one -->", ""), "p.md: a region of numbers without its"),
        (PAGE + PAGE.replace("<!-- end -->", ""), "p.md: a region of numbers without its"),
        (PAGE.replace("one", "two"), "p.md: no code writes the numbers two"),
    ],
)
def test_a_broken_region_is_named(page: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        fill(page, {"one": str}, where="p.md")


def test_three_orders_do_not_hold() -> None:
    differences = {
        (claim.name, name): orders.paired(claim, model, orders.accuracy)
        for claim in orders.CLAIMS
        for model, name in orders.NAMES.items()
    }
    fails = [key for key, mean in differences.items() if mean and "not" in mean.verdict]
    assert fails == [
        ("P over frequency, 25 %", "Qwen2-MoE"),
        ("P over frequency, 50 %", "Qwen2-MoE"),
        ("P + D + F over P + D, F on instructions", "Qwen2-MoE"),
    ]


def test_the_interval_is_scipys() -> None:
    values = [0.3, 1.2, -0.4, 0.8, 2.0]
    mean = orders.interval(values)
    bounds = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean.mean - mean.reach, mean.mean + mean.reach) == pytest.approx(tuple(bounds))
