"""Every method in every state and in recipes of two steps does what the contract's table says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.errors import Refused
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build, names
from harness.model.files.artifact import load, save
from harness.model.view import MoEModel
from tests.methods.contract.calibrations import calibration
from tests.methods.contract.cases import CASES, FIRST, OPTIONS, RECIPE_CASES, STATE_CASES, Case
from tests.methods.contract.outcome import Outcome
from tests.methods.contract.states import STATES
from tests.methods.contract.table import FILE, TABLE, plain

Tiny = Callable[..., MoEModel]
BEFORE: dict[tuple[str, str], Tensor] = {}
"""Logits of each state and family: every case meets the same model, so they are taken once."""


def logits(model: MoEModel) -> Tensor:
    with torch.no_grad():
        return model.lm(torch.arange(20).reshape(2, 10)).logits  # type: ignore[no-any-return]


def attempt(model: MoEModel, case: Case) -> str:
    """The refusal, its names and numbers replaced; empty if the case ran."""
    try:
        compress(model, [BoundStep(build(case.method, case.options), calibration())])
    except Refused as refusal:
        return plain(str(refusal), model.ref)
    return ""


def check(model: MoEModel, case: Case, request: pytest.FixtureRequest, folder: Path) -> None:
    """The case is refused as the table says, or changes the model, soundly and for good."""
    edits = len(model.edits)
    if (case.state, case.family) not in BEFORE:
        BEFORE[case.state, case.family] = logits(model)
    refusal = attempt(model, case)
    request.node.user_properties.append(Outcome.of(case, refusal).recorded())
    assert refusal == TABLE.expected(case), f"in {FILE.name}: {case.id}"
    if refusal:
        return
    assert len(model.edits) > edits
    after = logits(model)
    assert torch.isfinite(after).all()
    assert not torch.equal(after, BEFORE[case.state, case.family])
    save(model, folder / "artifact")
    assert torch.equal(logits(load(folder / "artifact")), after)


@pytest.mark.parametrize("case", STATE_CASES, ids=lambda case: case.id)
def test_compressed_models(
    case: Case, tiny: Tiny, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = tiny(case.family)
    STATES[case.state].bring(model)
    check(model, case, request, tmp_path)


@pytest.mark.parametrize("case", RECIPE_CASES, ids=lambda case: case.id)
def test_recipes_of_two_steps(
    case: Case, tiny: Tiny, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = tiny(case.family)
    first = case.state.removeprefix("after ")
    compress(model, [BoundStep(build(first, FIRST[first]), calibration())])
    check(model, case, request, tmp_path)


def test_every_method_has_a_row() -> None:
    grouped = [*TABLE.methods(), *TABLE.elsewhere]
    for name in names():
        assert grouped.count(name) == 1, (
            f"method {name!r} is in {grouped.count(name)} rows of {FILE.name}; "
            "put it into one of [groups], or say under [elsewhere] which test checks it."
        )
        assert name in OPTIONS or name in TABLE.elsewhere, (
            f"method {name!r} has no options in cases.py; add those that its users give."
        )
    assert sorted(grouped) == names()


def test_every_rule_is_met_and_no_case_meets_two() -> None:
    met = [TABLE.rules(case) for case in CASES]
    assert max(map(len, met)) == 1
    idle = [rule for rule in TABLE.refused if not any(rule in rules for rules in met)]
    assert idle == []


def test_every_name_in_the_table_is_one() -> None:
    assert set(TABLE.leaves) == set(FIRST)
    assert set(TABLE.leaves.values()) <= set(STATES)
    for rule in TABLE.refused:
        assert set(rule.states) <= set(STATES)
        assert set(rule.methods) <= {*TABLE.groups, *TABLE.methods()}


def test_cases_have_names_of_their_own() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
