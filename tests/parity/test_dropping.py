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
def test_consecutive_block_drop_scores_what_it_drops(
    drop: int, compressed: Run, expected: dict[str, Any]
) -> None:
    """The authors' own decisions come out under the compatibility switch alone."""
    similarity = expected["cmoe"]["block_sim"]
    scores = [similarity[i][drop - 1] for i in range(4 - drop + 1)]
    first = max(range(len(scores)), key=scores.__getitem__)
    ours, _ = compressed("block-drop", drop=drop, mode="consecutive")
    assert [edit.block for edit in ours.edits] == list(range(first, first + drop))
    theirs, _ = compressed("block-drop", drop=drop, mode="consecutive", off_by_one=True)
    facts = expected["cmoe"][f"block_drop_consecutive_n{drop}"]
    assert [edit.block for edit in theirs.edits] == facts
    assert ours.edits != theirs.edits


@pytest.mark.parametrize("score", ["norm-moe", "moe"])
def test_bf16_similarities_round_as_torch_does(
    score: str, compressed: Run, input_ids: Tensor
) -> None:
    """Against one cosine over all states in bf16, taken from transformers' own forward."""
    base, _ = compressed("random", keep=8)
    seen: dict[int, dict[str, Tensor]] = {index: {} for index in base.numbers}

    def keep(index: int, name: str, place: int) -> Any:
        def hook(_: Any, args: tuple[Tensor, ...], out: Tensor) -> None:
            seen[index][name] = (args[0] if place == 0 else out).flatten(0, 1)

        return hook

    for index in base.numbers:
        layer = base.layer(index)
        layer.post_attention_layernorm.register_forward_hook(keep(index, "h", 0))
        layer.post_attention_layernorm.register_forward_hook(keep(index, "x", 1))
        layer.mlp.register_forward_hook(keep(index, "y", 1))
    with torch.no_grad():
        base.lm(input_ids)
    wanted = {}
    for index, states in seen.items():
        h, x, y = states["h"], states["x"], states["y"]
        before, after = (h, h + y) if score == "norm-moe" else (x, y)
        cosine = torch.cosine_similarity(before.bfloat16(), after.bfloat16(), dim=-1)
        wanted[index] = float(cosine.mean())
    _, report = compressed("layer-drop", drop=1, score=score, bf16_similarity=True)
    ours = report.notes[0].data
    assert ours == pytest.approx(wanted, rel=2**-7)  # one step
    assert list(ours.values()) == torch.tensor(list(ours.values())).bfloat16().tolist()
    _, exact = compressed("layer-drop", drop=1, score=score)
    assert exact.notes[0].data == pytest.approx(wanted, abs=2e-2)
    assert list(exact.notes[0].data.values()) != list(ours.values())
