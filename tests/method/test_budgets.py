"""Budgets of layers that have unequally many experts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import Refused
from harness.method.budgets import KeepBudget
from harness.model.edits import KeepExperts
from harness.model.view import MoEModel


@pytest.fixture
def uneven(tiny: Callable[..., MoEModel]) -> MoEModel:
    """Layers of 6, 1, 2 and 4 experts; two per token where there are two."""
    model = tiny("mixtral")
    model.apply(KeepExperts(block=1, experts=(3,)))
    model.apply(KeepExperts(block=2, experts=(0, 5)))
    model.apply(KeepExperts(block=3, experts=(0, 1, 2, 4)))
    return model


def test_a_layer_whose_ratio_is_no_expert_keeps_all(uneven: MoEModel) -> None:
    assert KeepBudget(ratio=0.2).plan(uneven) == {0: 5, 1: 1, 2: 2, 3: 3}
    assert KeepBudget(ratio=0.2).plan_drops(uneven) == {0: 1, 1: 0, 2: 0, 3: 1}


def test_a_ratio_that_removes_none_anywhere_is_refused(uneven: MoEModel) -> None:
    with pytest.raises(Refused, match=r"ratio 0\.05 of 6 experts removes none; raise it\."):
        KeepBudget(ratio=0.05).plan(uneven)


def test_the_least_that_a_layer_keeps(uneven: MoEModel) -> None:
    with pytest.raises(Refused, match="block 2 chooses 2 experts per token; keep at least 2"):
        KeepBudget(ratio=0.3).plan(uneven)
    assert KeepBudget(ratio=0.3).plan(uneven, least=1) == {0: 4, 1: 1, 2: 1, 3: 3}
    with pytest.raises(Refused, match="block 1 would keep 0 experts; keep 1 or more"):
        KeepBudget(ratio=0.8).plan(uneven, least=1)


def test_a_count_fits_every_layer_or_is_refused(uneven: MoEModel) -> None:
    with pytest.raises(Refused, match="keep = 2: block 1 has only 1 experts"):
        KeepBudget(keep=2).plan(uneven)
    assert KeepBudget(keep=1).plan(uneven, least=1) == dict.fromkeys(range(4), 1)
