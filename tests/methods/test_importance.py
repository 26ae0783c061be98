"""Leave-one-out losses against full forwards of models that have lost the expert for real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.calibration.passes.importance import leave_one_out
from harness.calibration.states import run
from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from harness.errors import Refused
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.edits import (
    DropBlock,
    DropMoE,
    Edit,
    KeepExperts,
    LowRank,
    MergeExperts,
    SetWeights,
    SkipExperts,
)
from harness.model.view import MoEModel

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]


def full_loss(model: MoEModel, calibration: Calibration) -> float:
    """Mean token loss from transformers' own forward."""
    total, count = 0.0, 0
    for inputs in calibration.batches():
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        labels = inputs["labels"][:, 1:].flatten()
        with torch.no_grad():
            logits = model.lm(input_ids=inputs["input_ids"], attention_mask=mask).logits
        rows = logits[:, :-1].flatten(0, 1).double()
        total += F.cross_entropy(rows, labels, reduction="sum").item()
        count += int((labels != -100).sum())
    return total / count


def check(
    build_model: Callable[[], MoEModel],
    calibration: Calibration,
    router: dict[int, str] | None = None,
) -> None:
    """Every importance of a model is the loss of one from which the expert was removed."""
    model = build_model()
    with torch.no_grad():
        importance = leave_one_out(model, calibration)
    assert model.edits == build_model().edits
    assert importance.base == pytest.approx(full_loss(model, calibration), rel=1e-6)
    assert list(importance.losses) == [block.index for block in model.moe_blocks()]
    for block in model.moe_blocks():
        assert tuple(importance.losses[block.index]) == block.experts
        for expert, loss in importance.losses[block.index].items():
            without = build_model()
            left = tuple(other for other in block.experts if other != expert)
            how: Any = (router or {}).get(block.index, "rows")
            without.apply(KeepExperts(block=block.index, experts=left, router=how))
            assert loss == pytest.approx(full_loss(without, calibration), rel=1e-6)


@pytest.mark.parametrize("padded", [False, True])
def test_every_expert_of_every_layer(
    family: str, padded: bool, tiny: Tiny, calibration: Calibrate
) -> None:
    check(lambda: tiny(family), calibration(padded=padded))


def test_routing_that_is_not_plain(family: str, tiny: Tiny, calibration: Calibrate) -> None:
    """Merged, masked, unrouted, skipped experts: removed as the block's own experts were."""
    edits: list[Edit] = [
        MergeExperts(block=1, groups=((0, 3), (1,), (2, 4, 5)), weights=((1, 1), (1,), (1, 2, 1))),
        KeepExperts(block=2, experts=(0, 1, 2, 4), router="mask"),
        KeepExperts(block=3, experts=(0, 2, 3, 5), router="preserve"),
    ]

    def pruned() -> MoEModel:
        model = tiny(family)
        for edit in edits:
            model.apply(edit)
        if model.blocks[0].experts:
            model.apply(SkipExperts(block=0, beta=0.5))
        return model

    check(pruned, calibration(padded=True), {2: "mask", 3: "preserve"})


def test_uneven_models_and_low_rank(family: str, tiny: Tiny, calibration: Calibrate) -> None:
    generator = torch.Generator().manual_seed(0)

    def pruned() -> MoEModel:
        model = tiny(family)
        generator.manual_seed(0)
        rows, columns = model.blocks[1].weight("experts.3.up").shape
        u = torch.randn(rows, 4, generator=generator) / 4
        v = torch.randn(4, columns, generator=generator)
        model.apply(LowRank.of(1, {"experts.3.up": (u, v)}))
        model.apply(KeepExperts(block=2, experts=tuple(range(model.blocks[2].top_k))))
        model.apply(DropMoE(block=3))
        model.apply(DropBlock(block=0))
        return model

    check(pruned, calibration())


@pytest.mark.parametrize("merged", [False, True])
def test_the_only_expert_leaves_nothing(
    family: str, merged: bool, tiny: Tiny, calibration: Calibrate
) -> None:
    def single() -> MoEModel:
        model = tiny(family)
        merge = MergeExperts(block=2, groups=(tuple(range(6)),), weights=((1.0,) * 6,))
        model.apply(merge if merged else KeepExperts(block=2, experts=(0,)))
        return model

    with torch.no_grad():
        importance = leave_one_out(single(), calibration())
    silent = single()
    down = silent.blocks[2].weight("experts.0.down")
    silent.apply(SetWeights.of(2, {"experts.0.down": torch.zeros_like(down)}))
    assert importance.losses[2] == {0: pytest.approx(full_loss(silent, calibration()), rel=1e-6)}
    assert importance.losses[2][0] != pytest.approx(importance.base, rel=1e-4)


def test_experts_that_saw_no_token(family: str, tiny: Tiny) -> None:
    """Cutting them changes nothing where weights are renormalised, and only there."""
    ids = torch.tensor([[3, 14, 15]])
    tokens = Calibration(Tokens(ids, None, "made up", 0, "three ids"), batch_size=4)
    check(lambda: tiny(family), tokens)
    assert any(int(one.count.min()) == 0 for one in tokens.coverage.values())


def test_no_run_for_an_expert_nobody_chose(
    tiny: Tiny, calibration: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("mixtral")
    tokens = calibration(sequences=1)
    runs = 0

    def counted(*args: Any) -> Tensor:
        nonlocal runs
        runs += 1
        return run(*args)

    monkeypatch.setattr("harness.calibration.passes.leave_one_out.run", counted)
    with torch.no_grad():
        importance = leave_one_out(model, tokens)
    routed = {
        index: {expert for expert in range(6) if int(one.count[expert])}
        for index, one in tokens.coverage.items()
    }
    assert any(len(experts) < 6 for experts in routed.values())
    for index, losses in importance.losses.items():
        for expert in set(range(6)) - routed[index]:
            assert losses[expert] == importance.base
    after = {0: 3, 1: 2, 2: 1, 3: 0}  # blocks that follow
    assert runs == after[0] + sum(after[index] * len(experts) for index, experts in routed.items())


def test_cached_importance_runs_nothing(
    tiny: Tiny, calibration: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        first = leave_one_out(tiny("qwen2_moe"), calibration(cache=True))
        later = tiny("qwen2_moe")
        later.apply(KeepExperts(block=3, experts=(0, 1, 2, 3)))  # changes what follows block 0
        other = leave_one_out(later, calibration(cache=True))
    assert other.losses[0] != first.losses[0]

    def never(*_: object) -> None:
        raise AssertionError("a cached statistic was taken again")

    monkeypatch.setattr("harness.calibration.walk.observe", never)
    monkeypatch.setattr("harness.calibration.states.run", never)
    assert leave_one_out(tiny("qwen2_moe"), calibration(cache=True)) == first


def test_no_tokens(family: str, tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny(family, meta=True)
    importance = leave_one_out(model, calibration(sequences=0))
    assert importance.base == 0.0
    assert importance.losses == {b.index: dict.fromkeys(b.experts, 0.0) for b in model.moe_blocks()}


def test_refusals(tiny: Tiny, calibration: Calibrate) -> None:
    empty = tiny("mixtral")
    for index in range(4):
        empty.apply(DropMoE(block=index))
    with pytest.raises(Refused, match="has no experts"):
        leave_one_out(empty, calibration())


def test_top_loss_drops_the_least_important(
    family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    with torch.no_grad():
        losses = leave_one_out(tiny(family), calibration()).losses
    model = tiny(family)
    [report] = compress(model, [BoundStep(build("top-loss", {"keep": 4}), calibration())])
    assert model.edits == tuple(
        KeepExperts(
            block=index,
            experts=tuple(sorted(sorted(layer, key=lambda e, layer=layer: layer[e])[2:])),  # type: ignore[misc]
        )
        for index, layer in losses.items()
    )
    [note] = report.notes
    assert note.name == "moe-i2.importance"
    assert note.data["2"] == {str(expert): loss for expert, loss in losses[2].items()}
