from __future__ import annotations

import random

import pytest

from harness.errors import UserError
from harness.judge.paired import compare
from harness.records.record import Item


def _items(outcomes: list[float], metric: str = "acc") -> list[Item]:
    return [
        Item(task="arc", item=f"i{place}", prompt=f"p{place}", metrics={metric: outcome})
        for place, outcome in enumerate(outcomes)
    ]


def _pair(both: int, lost: int, gained: int, neither: int) -> tuple[list[Item], list[Item]]:
    first = [1.0] * both + [1.0] * lost + [0.0] * gained + [0.0] * neither
    second = [1.0] * both + [0.0] * lost + [1.0] * gained + [0.0] * neither
    return _items(first), _items(second)


def test_newcombes_example() -> None:
    # Newcombe (1998), table II: 36, 12, 2, 0 gives 0.20 with 0.0569 to 0.3404.
    result = compare(*_pair(36, 12, 2, 0))
    assert (result.items, result.lost, result.gained) == (50, 12, 2)
    assert result.difference == pytest.approx(-0.20)
    assert (result.low, result.high) == pytest.approx((-0.3404, -0.0569), abs=5e-5)
    # Two-sided exact: twice the sum of C(14, 0..2) over 2^14.
    assert result.p == pytest.approx(2 * (1 + 14 + 91) / 2**14)


def test_swapping_the_models_turns_the_sign() -> None:
    a, b = _pair(30, 9, 4, 7)
    there, back = compare(a, b), compare(b, a)
    assert (there.difference, there.low, there.high) == pytest.approx(
        (-back.difference, -back.high, -back.low)
    )
    assert there.p == back.p


def test_no_item_that_differs_is_no_certainty() -> None:
    result = compare(*_pair(20, 0, 0, 20))
    assert (result.difference, result.p) == (0.0, 1.0)
    assert result.low < 0 < result.high
    result = compare(*_pair(20, 0, 0, 0))
    assert result.low < 0 < result.high


def test_items_pair_by_name_not_by_place() -> None:
    a, b = _pair(30, 9, 4, 7)
    shuffled = random.Random(0).sample(b, len(b))
    assert compare(a, shuffled) == compare(a, b)


def test_an_item_that_occurs_twice_counts_twice() -> None:
    a, b = _pair(3, 1, 0, 1)
    assert compare([*a, a[0]], [*b, b[0]]).items == 6


def test_items_without_the_metric_are_left_out() -> None:
    a, b = _pair(3, 1, 0, 1)
    generated = Item(task="gsm8k", item="g", prompt="g", metrics={"exact_match": 1.0})
    assert compare([*a, generated], [*b, generated]).items == 5


def test_what_cannot_be_compared_is_refused() -> None:
    a, b = _pair(3, 1, 0, 1)
    with pytest.raises(UserError, match="1 have no partner"):
        compare(a, b[1:])
    with pytest.raises(UserError, match="no item has the metric 'acc_norm'"):
        compare(a, b, "acc_norm")
    with pytest.raises(UserError, match="not 0 or 1"):
        compare(_items([0.5]), _items([0.5]))
