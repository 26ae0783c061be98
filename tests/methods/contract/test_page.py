"""The contract's page says what the table says, and the counts at the end of a run add up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.methods.contract import page, summary
from tests.methods.contract.cases import CASES
from tests.methods.contract.outcome import Outcome
from tests.methods.contract.table import TABLE

of_the_page = pytest.mark.skipif(
    "config.getoption('--update-contract')", reason="the page is written after this run"
)
EXPECTED = sorted(Outcome.of(case, TABLE.expected(case)) for case in CASES)


@of_the_page
def test_the_page_is_of_this_table() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render(EXPECTED), (
        f"{page.PAGE.name} is out of date; run {page.COMMAND}"
    )


@of_the_page
def test_the_counts_are_the_tables() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    counts = re.search(r"Of (\d+) cases (\d+) ran and\s(\d+) were refused", text)
    assert counts is not None
    ran = sum(not TABLE.rules(case) for case in CASES)
    assert [int(count) for count in counts.groups()] == [len(CASES), ran, len(CASES) - ran]
    assert ran > 0.7 * len(CASES)  # a table that refuses most cases tests little


def test_the_summary_counts_what_ran() -> None:
    ran, refused = [o for o in EXPECTED if not o.refusal], [o for o in EXPECTED if o.refusal]
    assert summary.line([*ran[:5], *refused[:2]], []) == (
        "contract: 5 ran, 2 refused as the table says"
    )
    assert summary.line(ran[:5], refused[:1]) == (
        "contract: 5 ran, 0 refused as the table says, 1 failed"
    )


def test_the_page_is_written_from_a_whole_run_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "PAGE", tmp_path / "contract.md")
    assert f"1 of {len(CASES)} cases did not run" in summary.write(EXPECTED[1:])
    assert not (tmp_path / "contract.md").exists()
    summary.write(EXPECTED[::-1])
    assert (tmp_path / "contract.md").read_text(encoding="utf-8") == page.render(EXPECTED)
