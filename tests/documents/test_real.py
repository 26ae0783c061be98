"""The words on an order of the literature, before and after there are records."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.plan.suite import Suite
from tests.documents import real
from tests.documents.pages import ROOT


def test_an_order_holds_where_all_seeds_and_texts_have_it() -> None:
    assert real.verdict([([1.0], [2.0, 3.0]), ([5.0], [6.0, 5.5])]) == "holds"
    assert real.verdict([([1.0], [2.0, 0.9]), ([5.0], [6.0, 5.5])]) == "is not decided"
    assert real.verdict([([1.0], [2.0]), ([5.0], [4.0])]) == "is not decided"
    assert real.verdict([([2.0], [1.0]), ([5.0], [4.0])]) == "**does not hold**"


def test_claims_name_rows_and_models_of_the_suite() -> None:
    suite = Suite.load(ROOT / "suites" / "real-small.toml")
    rows = {recipe.name for recipe in suite.recipes}
    assert {row for claim in real.CLAIMS for row in claim} <= rows
    assert {Path(model).name for model in suite.models} == set(real.NAMES)
    assert set(real.TEXTS) == set(suite.protocol.perplexity)


def test_without_records_the_tables_say_what_makes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(real, "ROOT", tmp_path)
    assert real.results() == real.orders() == real.NOTHING
