"""REAP's saliency statistics, and what they decide, against the authors' observer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.calibration.passes.saliency import Saliency, saliencies
from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from harness.model.files.opening import open_model
from harness.model.view import MoEModel

MODEL = Path(__file__).parent / "data" / "model"
Run = Callable[..., tuple[MoEModel, Any]]
NAMES: dict[str, Callable[[Saliency], Tensor]] = {
    "ean_sum": lambda one: one.norms,
    "ean_mean": lambda one: one.per_token(one.norms),
    "max_activations": lambda one: one.largest,
}
WEIGHTED: dict[bool, dict[str, Callable[[Saliency], Tensor]]] = {
    False: {
        "weighted_ean_sum": lambda one: one.weighted,
        "weighted_expert_frequency_sum": lambda one: one.mass,
        "reap": lambda one: one.per_token(one.weighted),
    },
    True: {
        "weighted_ean_sum": lambda one: one.weighted_renormalised,
        "weighted_expert_frequency_sum": lambda one: one.mass_renormalised,
        "reap": lambda one: one.per_token(one.weighted_renormalised),
    },
}


@pytest.mark.parametrize("renormalise", [False, True])
def test_statistics(renormalise: bool, input_ids: Tensor, expected: dict[str, Any]) -> None:
    facts = expected["reap_and_mcsmoe"][f"reap_renorm{renormalise}"]
    model = open_model(str(MODEL), dtype=torch.float32, attention="eager")
    with torch.no_grad():
        measured = saliencies(
            model, Calibration(Tokens(input_ids, None, "parity", 0, "parity data"))
        )
    assert list(measured) == list(range(len(facts)))
    for index, theirs in enumerate(facts):
        assert measured[index].tokens.tolist() == theirs["expert_frequency"]
        for name, ours in {**NAMES, **WEIGHTED[renormalise]}.items():
            # Theirs are running means in fp32.
            assert ours(measured[index]).tolist() == pytest.approx(theirs[name], rel=1e-5), name


@pytest.mark.parametrize("keep", [6, 4, 3])
@pytest.mark.parametrize(
    ("method", "options", "renormalised", "measure"),
    [
        ("frequency", {}, False, "expert_frequency"),
        ("ean", {}, False, "ean_sum"),
        ("ean", {"statistic": "mean"}, False, "ean_mean"),
        ("ean", {"statistic": "weighted"}, False, "weighted_ean_sum"),
        ("reap", {}, True, "reap"),
        ("reap", {"renormalise": False}, False, "reap"),
    ],
)
def test_the_lowest_go(
    method: str,
    options: dict[str, Any],
    renormalised: bool,
    measure: str,
    keep: int,
    compressed: Run,
    expected: dict[str, Any],
) -> None:
    model, report = compressed(method, keep=keep, **options)
    facts = expected["reap_and_mcsmoe"][f"reap_renorm{renormalised}"]
    for block, theirs in zip(model.blocks, facts, strict=True):
        order = torch.tensor(theirs[measure]).argsort().tolist()
        assert set(block.experts) == set(order[-keep:])
        scores = report.notes[0].data[block.index]
        assert list(scores.values()) == pytest.approx(theirs[measure], rel=1e-5)
