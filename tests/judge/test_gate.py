"""A run against an earlier one, on made-up records."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.judge.gate import Gated, Margins, code_between, gate, verdict_of
from harness.judge.paired import compare, compare_seeds
from harness.records.basis import Basis
from harness.records.digest import unsealed
from harness.records.protocol import LATER, Protocol
from harness.records.reading import Damaged
from harness.records.record import Item, Record
from harness.records.store import Store
from harness.report.tables.gate import code_line, gate_table
from tests.records.made_up import items, record, store

FROZEN = Protocol(tasks=("boolq",), average=("boolq",), perplexity=("wikitext2",))
SCORES = {"boolq": 0.7}
RIGHT = [True] * 700 + [False] * 300

Cells = Sequence[tuple[Record, Sequence[Item]]]
Make = Callable[..., Store]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(name: str, cells: Cells, frozen: Protocol = FROZEN, **more: Any) -> Store:
        return store(tmp_path / name, frozen, cells, **more)

    return made


def cell(outcomes: Sequence[bool], seed: int = 0, **fields: Any) -> tuple[Record, list[Item]]:
    given = {"protocol": FROZEN, "perplexity": 2.0, **fields}
    return record("pruned", SCORES, seed=seed, **given), items(outcomes)


def worse(lost: int, gained: int = 0) -> list[bool]:
    """`RIGHT` with so many items changed."""
    return [False] * lost + [True] * (700 - lost) + [True] * gained + [False] * (300 - gained)


def only(rows: list[Gated]) -> Gated:
    [row] = rows
    return row


def test_the_same_run_is_green(make: Make) -> None:
    row = only(gate(make("new", [cell(RIGHT)]), make("old", [cell(RIGHT)])))
    assert row.outcome == "non-inferior"
    assert row.difference is not None
    assert row.difference.mean == 0
    assert (row.perplexity, row.size, row.before) == (1.0, 1.0, 0.7)


@pytest.mark.parametrize(
    ("lost", "gained", "outcome"),
    [
        (10, 10, "non-inferior"),
        (10, 0, "non-inferior"),  # worse for sure, and less than the margin
        (40, 30, "non-inferior"),
        (50, 10, "regressed"),
        (200, 190, "cannot tell"),
        (0, 100, "non-inferior"),
    ],
)
def test_what_the_items_say(make: Make, lost: int, gained: int, outcome: str) -> None:
    new = make("new", [cell(worse(lost, gained))])
    row = only(gate(new, make("old", [cell(RIGHT)])))
    assert (row.outcome, row.difference and row.difference.items) == (outcome, 1000)
    assert verdict_of([row]) == outcome


def test_the_margin_decides(make: Make) -> None:
    new, old = make("new", [cell(worse(50, 10))]), make("old", [cell(RIGHT)])
    assert only(gate(new, old, Margins(accuracy=0.06))).outcome == "non-inferior"
    barely = make("barely", [cell(worse(10))])
    assert only(gate(barely, old, Margins(accuracy=0.01))).outcome == "regressed"


@pytest.mark.parametrize(
    ("fields", "outcome", "why"),
    [
        ({"perplexity": 2.2}, "regressed", "perplexity"),
        ({"perplexity": 2.08}, "non-inferior", ""),
        ({"perplexity": 1e308}, "regressed", "perplexity"),
        ({"parameters": 1020}, "regressed", "size"),
        ({"parameters": 900}, "non-inferior", ""),
        ({"parameters": 1020, "perplexity": 3.0}, "regressed", "perplexity, size"),
    ],
)
def test_perplexity_and_size_may_not_grow(
    make: Make, fields: dict[str, Any], outcome: str, why: str
) -> None:
    new = make("new", [cell(RIGHT, **fields)])
    row = only(gate(new, make("old", [cell(RIGHT)])))
    assert (row.outcome, row.why) == (outcome, why)


def test_a_row_that_is_not_ok_any_more_regressed(make: Make) -> None:
    refused = cell([], status="refused", reason="keep = 9: too many.")
    good, bad = make("good", [cell(RIGHT)]), make("bad", [refused])
    lost = only(gate(bad, good))
    assert (lost.outcome, lost.why) == ("regressed", "refused: keep = 9: too many.")
    won = only(gate(good, bad))
    assert (won.outcome, won.why) == ("non-inferior", "was refused")


def test_seeds_are_pooled_by_item(make: Make) -> None:
    rng = random.Random(0)

    def seeds(chance: float, first: int) -> list[tuple[Record, list[Item]]]:
        return [
            cell([right and rng.random() > chance for right in RIGHT], seed=seed)
            for seed in range(first, first + 3)
        ]

    old = make("old", seeds(0.05, 0))
    assert only(gate(make("same", seeds(0.05, 7)), old)).outcome == "non-inferior"
    row = only(gate(make("worse", seeds(0.15, 0)), old))
    assert row.outcome == "regressed"
    assert row.difference is not None
    assert row.difference.mean == pytest.approx(-0.07, abs=0.02)
    assert row.seeds == (0, 1, 2)


def test_one_run_each_is_the_paired_comparison() -> None:
    a, b = items(RIGHT), items(worse(40, 20))
    both, paired = compare_seeds([a], [b]), compare(a, b)
    assert (both.mean, both.low, both.high) == (paired.difference, paired.low, paired.high)


def test_no_difference_over_seeds_is_no_certainty() -> None:
    difference = compare_seeds([items(RIGHT)] * 2, [items(RIGHT)] * 2)
    assert difference.low < 0 < difference.high


def test_what_cannot_be_compared_is_one_sentence(make: Make) -> None:
    old = make("old", [cell(RIGHT)])
    limited = FROZEN.model_copy(update={"limit": 5})
    other = make("protocol", [cell(RIGHT, protocol=limited)], limited)
    baseline = record("baseline", SCORES, protocol=FROZEN)
    faults = {
        "different protocols .limit = none there.": other,
        "have no record, such as 'more' on m, seed 0": make(
            "unfinished", [cell(RIGHT)], unfinished=[("more", "m")]
        ),
        "has no row 'baseline' of": make("rows", [cell(RIGHT), (baseline, items(RIGHT))]),
        "other weights": make("weights", [cell(RIGHT, sha256="other")]),
        "'pruned' of .*not evaluated on the same items": make("items", [cell(RIGHT[:-1])]),
        "no results here": Store(old.folder / "nothing"),
    }
    for said, new in faults.items():
        with pytest.raises(UserError, match=said) as caught:
            gate(new, old)
        assert "\n" not in str(caught.value)


def with_basis(**fields: Any) -> tuple[Record, list[Item]]:
    return cell(RIGHT, basis=Basis.model_validate(fields))


def test_code_may_differ_and_is_named_by_stage(make: Make) -> None:
    old = make("old", [with_basis(code={"compress": {"a": "1", "b": "1"}, "evaluate": {"c": "1"}})])
    new = make("new", [with_basis(code={"compress": {"a": "2", "b": "1"}, "evaluate": {"d": "1"}})])
    assert only(gate(new, old)).outcome == "non-inferior"
    line = "Code that differs: compress: a; evaluate: c, d.\n"
    assert code_line(code_between(new, old)) == line
    assert code_line(code_between(new, new)) == "The code is the same.\n"
    unknown = make("unknown", [cell(RIGHT)])
    said = "No code is known to differ. Of 1 rows a run recorded no code.\n"
    assert code_line(code_between(unknown, unknown)) == said


def other_data(kind: str, name: str) -> tuple[Record, list[Item]]:
    made, outcomes = cell(RIGHT)
    results = getattr(made, kind)
    changed = {**results, name: results[name].model_copy(update={"data": "other"})}
    return made.model_copy(update={kind: changed}), outcomes


def test_other_data_are_refused(make: Make) -> None:
    old = make("old", [cell(RIGHT)])
    calibrated = [with_basis(data={"compress": {"allenai/c4": digest}}) for digest in "12"]
    pairs = {
        "evaluated on other data .boolq.": (make("task", [other_data("tasks", "boolq")]), old),
        "evaluated on other data .wikitext2.": (
            make("text", [other_data("perplexity", "wikitext2")]),
            old,
        ),
        "calibrated on other data .allenai/c4.": (
            make("one", calibrated[:1]),
            make("two", calibrated[1:]),
        ),
    }
    for said, (new, before) in pairs.items():
        for run in (gate, code_between):
            with pytest.raises(UserError, match=f"'pruned' of .* was {said}") as caught:
                run(new, before)
            assert "\n" not in str(caught.value)


def test_a_plan_without_later_fields_is_of_the_same_protocol(make: Make) -> None:
    new, old = make("new", [cell(RIGHT)]), make("old", [cell(RIGHT)])
    path = old.folder / "cells.json"
    values, _ = unsealed(json.loads(path.read_text()))
    values["protocol"] = {k: v for k, v in values["protocol"].items() if k not in LATER}
    path.write_text(json.dumps(values))
    assert only(gate(new, old)).outcome == "non-inferior"


def test_a_damaged_record_is_no_pass(make: Make) -> None:
    new, old = make("new", [cell(RIGHT)]), make("old", [cell(RIGHT)])
    path = new.loose.record_path(new.cells()[0])
    path.write_text(path.read_text().replace('"acc": 0.7', '"acc": 0.9'))
    with pytest.raises(Damaged, match="it is not what was written"):
        gate(new, old)


def test_the_table_says_it_all(make: Make) -> None:
    new, old = make("new", [cell(worse(50, 10), perplexity=2.2)]), make("old", [cell(RIGHT)])
    text = gate_table(gate(new, old), Margins())
    header, line, _, summary = text.splitlines()
    assert "95 % interval" in header
    assert "regressed (accuracy, perplexity)" in line
    assert " 70.0 " in line
    assert " -4.0 " in line
    assert " 1.100 " in line
    assert summary.startswith("1 rows: 0 non-inferior, 1 regressed, 0 cannot tell. Margins: 3 poi")
