"""EEP and Expert Drop against the authors' decisions, losses and logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model.view import MoEModel

Run = Callable[..., tuple[MoEModel, Any]]


@pytest.mark.parametrize("keep", [6, 4])
@pytest.mark.parametrize("progressive", [False, True])
def test_eep(
    progressive: bool,
    keep: int,
    compressed: Run,
    expected: dict[str, Any],
    authors_logits: dict[str, Tensor],
    logits: Callable[[MoEModel], Tensor],
) -> None:
    mode = "progressive" if progressive else "layerwise"
    facts = expected["eep"][f"{mode}_pruning_r{keep}"]
    model, report = compressed("eep", keep=keep, progressive=progressive)
    assert {str(b.index): list(b.experts) for b in model.blocks} == facts["kept"]
    losses = {str(note.data["block"]): note.data for note in report.notes}
    for block, theirs in facts["loss"].items():
        ours = dict(zip(losses[block]["dropped"], losses[block]["losses"], strict=True))
        assert ours.keys() == theirs.keys()
        assert ours == pytest.approx(theirs, rel=1e-6)
    wanted = authors_logits[f"logits.eep.{mode}.r{keep}"]
    torch.testing.assert_close(logits(model), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("keep", [6, 4])
@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_expert_drop(scope: str, keep: int, compressed: Run, expected: dict[str, Any]) -> None:
    facts = expected["cmoe"]
    model, report = compressed("expert-drop", batch_size=1, keep=keep, scope=scope)
    assert [list(b.experts) for b in model.blocks] == facts[f"expert_drop_{scope}_pruning_p{keep}"][
        "kept"
    ]
    samples = 16  # the authors divide by the number of sequences
    for block, theirs in enumerate(facts[f"expert_scores_{scope}_pruning"]):
        ours = [score / samples for score in report.notes[0].data[block].values()]
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(("router", "flag"), [("rows", "false"), ("preserve", "true")])
@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_expert_drop_logits(
    scope: str,
    router: str,
    flag: str,
    compressed: Run,
    authors_logits: dict[str, Tensor],
    logits: Callable[[MoEModel], Tensor],
) -> None:
    model, _ = compressed("expert-drop", keep=6, scope=scope, router=router)
    wanted = authors_logits[f"logits.cmoe.expert_drop_{scope}.keep6.preserve_gate_{flag}"]
    torch.testing.assert_close(logits(model), wanted, atol=1e-4, rtol=0)


def test_the_base_model(
    compressed: Run, authors_logits: dict[str, Tensor], logits: Callable[[MoEModel], Tensor]
) -> None:
    model, _ = compressed("random", keep=8)
    torch.testing.assert_close(logits(model), authors_logits["logits.base"], atol=1e-4, rtol=0)
