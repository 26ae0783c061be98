"""Layer Drop and Block Drop against the authors' similarities, orders and logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model.view import MoEModel

Run = Callable[..., tuple[MoEModel, Any]]


@pytest.mark.parametrize("drop", [1, 2, 3])
@pytest.mark.parametrize(("score", "flag"), [("norm-moe", True), ("moe", False)])
def test_layer_drop(
    score: str, flag: bool, drop: int, compressed: Run, expected: dict[str, Any]
) -> None:
    facts = expected["cmoe"]
    model, report = compressed("layer-drop", drop=drop, score=score)
    assert [edit.block for edit in model.edits] == facts[f"layer_drop_norm{flag}_n{drop}"]
    ours = list(report.notes[0].data.values())
    assert ours == pytest.approx(facts[f"layer_sim_norm{flag}"], abs=1e-6)


def test_layer_drop_logits(
    compressed: Run, authors_logits: dict[str, Tensor], logits: Callable[[MoEModel], Tensor]
) -> None:
    model, _ = compressed("layer-drop", drop=2)
    wanted = authors_logits["logits.cmoe.layer_drop_2"]
    torch.testing.assert_close(logits(model), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("drop", [1, 2, 3])
def test_discrete_block_drop(drop: int, compressed: Run, expected: dict[str, Any]) -> None:
    facts = expected["cmoe"]
    model, report = compressed("block-drop", drop=drop)
    assert [edit.block for edit in model.edits] == facts[f"block_drop_discrete_n{drop}"]
    for i, row in enumerate(facts["block_sim"]):
        for gap, theirs in enumerate(row):
            if i + gap + 1 < len(report.notes[0].data):
                assert report.notes[0].data[i][i + gap + 1] == pytest.approx(theirs, abs=1e-6)


def test_block_drop_logits(
    compressed: Run, authors_logits: dict[str, Tensor], logits: Callable[[MoEModel], Tensor]
) -> None:
    model, _ = compressed("block-drop", drop=1)
    for parameter in model.lm.parameters():  # theirs was saved in bf16, which moves some routes
        parameter.copy_(parameter.bfloat16())
    wanted = authors_logits["logits.cmoe.block_drop_1"]
    torch.testing.assert_close(logits(model), wanted, atol=3e-2, rtol=0)


@pytest.mark.parametrize("drop", [1, 2, 3])
def test_consecutive_block_drop_is_right_where_the_authors_index_is_off_by_one(
    drop: int, compressed: Run, expected: dict[str, Any]
) -> None:
    similarity = expected["cmoe"]["block_sim"]
    scores = [similarity[i][drop - 1] for i in range(4 - drop + 1)]
    first = max(range(len(scores)), key=scores.__getitem__)
    model, _ = compressed("block-drop", drop=drop, mode="consecutive")
    assert [edit.block for edit in model.edits] == list(range(first, first + drop))
    assert [e.block for e in model.edits] != expected["cmoe"][f"block_drop_consecutive_n{drop}"]
