"""Group-limited routers (DeepSeek-V2): every pruner keeps equally many experts of each group."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.calibration.passes.importance import leave_one_out
from harness.calibration.statistics.subset_errors import SubsetErrors
from harness.calibration.statistics.subset_losses import SubsetLosses
from harness.calibration.walk import Calibration
from harness.errors import Refused
from harness.method.recipe import BoundStep, StepReport, compress
from harness.method.registry import build
from harness.model.edits import KeepExperts
from harness.model.files.artifact import load, save
from harness.model.view import MoEModel
from tests.methods.test_decisions import outputs
from tests.models import draw_weights, from_config, tiny_config

Calibrate = Callable[..., Calibration]
SEARCH = {"population": 6, "iterations": 4}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("random", {}),
    ("frequency", {}),
    ("ean", {}),
    ("reap", {}),
    ("expert-drop", {}),
    ("expert-drop", {"rescore": True}),
    ("expert-drop", {"scope": "global"}),
    ("expert-drop", {"scope": "global", "rescore": True}),
    ("top-loss", {}),
    ("eep", {}),
    ("eep", {"progressive": True}),
    ("eep", {"sizes": [4, 5, 8]}),
    ("greedy", {}),
    ("moe-i2-prune", SEARCH),
    ("moe-i2-prune", {**SEARCH, "layers": "importance"}),
]
IDS = [f"{name}-{'-'.join(options)}" for name, options in CASES]


def grouped(seed: int = 0, top_k: int = 2, groups: int = 4, chosen: int = 2) -> MoEModel:
    """Twelve experts, a few groups of which give a token its own; their probabilities differ."""
    config = tiny_config(
        "deepseek_v2",
        n_routed_experts=12,
        num_experts_per_tok=top_k,
        topk_method="group_limited_greedy",
        n_group=groups,
        topk_group=chosen,
        num_hidden_layers=3,
    )
    lm = from_config(config, dtype=torch.float32)
    draw_weights(lm, seed)
    return MoEModel(lm, ref="grouped", sha256=f"grouped {seed}")


def run(
    model: MoEModel, calibration: Calibration, name: str, options: dict[str, Any]
) -> StepReport:
    [report] = compress(model, [BoundStep(build(name, options), calibration)])
    return report


def logits(model: MoEModel) -> Tensor:
    with torch.no_grad():
        return model.lm(torch.arange(20).reshape(2, 10)).logits  # type: ignore[no-any-return]


def kept(model: MoEModel) -> dict[int, tuple[int, ...]]:
    return {block.index: block.experts for block in model.blocks if block.experts}


def masked(model: MoEModel, experts: dict[int, tuple[int, ...]]) -> MoEModel:
    """The whole model, whose router's logits are minus infinity where an expert is gone."""

    def limited(gate: Any, gone: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = (hidden.flatten(0, -2) @ gate.weight.T).masked_fill(gone, float("-inf"))
        probs = scores.softmax(-1)
        best = probs.view(-1, 4, 3).amax(-1).topk(gate.topk_group).indices  # [tokens, chosen]
        inside = torch.nn.functional.one_hot(best, 4).sum(1).repeat_interleave(3, 1)
        weights, index = (probs * inside).topk(gate.top_k)
        return scores, weights * gate.routed_scaling_factor, index

    for index, left in experts.items():
        gate = model.layer(index).mlp.gate
        gone = torch.tensor([number not in left for number in range(12)])
        gate.forward = partial(limited, gate, gone)
    return model


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_equally_many_of_each_group_stay_and_are_routed_to_as_in_the_whole_model(
    name: str, options: dict[str, Any], calibration: Calibrate, tmp_path: Path
) -> None:
    model = grouped()
    report = run(model, calibration(), name, {"keep": 8, **options})
    experts = kept(model)
    for left in experts.values():
        counts = [sum(expert // 3 == group for expert in left) for group in range(4)]
        assert len(set(counts)) == 1
    assert sum(map(len, experts.values())) == 8 * 2
    notes = {note.name: note.data for note in report.notes}
    assert notes["keep.groups"][1][1] == (3, 4, 5)
    after = logits(model)
    torch.testing.assert_close(after, logits(masked(grouped(), experts)), rtol=1e-4, atol=1e-4)
    save(model, tmp_path / "artifact")
    again = load(tmp_path / "artifact")
    assert kept(again) == experts
    assert torch.equal(logits(again), after)


@pytest.mark.parametrize(
    ("options", "dropped"),
    [({"ratio": 0.3}, 4), ({"ratio": 0.5}, 8), ({"keep": 4}, 8)],
)
@pytest.mark.parametrize("name", ["reap", "eep", "greedy"])
def test_budgets_are_counted_in_groups(
    name: str, options: dict[str, Any], dropped: int, calibration: Calibrate
) -> None:
    model = grouped()
    run(model, calibration(), name, options)
    assert {len(left) for left in kept(model).values()} == {12 - dropped}


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_what_cannot_be_even_is_refused_and_the_advice_works(
    name: str, options: dict[str, Any], calibration: Calibrate
) -> None:
    with pytest.raises(Refused, match="has 4 groups, 2 of which give") as refused:
        run(grouped(), calibration(), name, {"keep": 7, **options})
    advised = [int(number) for number in re.findall(r"keep = (\d+)", str(refused.value))]
    assert advised[1:] == [4, 8]
    for keep in advised[1:]:
        run(grouped(), calibration(), name, {"keep": keep, **options})


def test_top_k_needs_enough_in_the_groups_it_comes_from(calibration: Calibrate) -> None:
    """Four experts a token from two groups: two of each group must stay."""
    with pytest.raises(Refused, match=r"its 4 experts: .* set keep = 8 or keep = 12\."):
        run(grouped(top_k=4), calibration(), "reap", {"keep": 4})


@pytest.mark.parametrize("router", ["mask", "preserve"])
def test_without_its_rows_cut_a_router_takes_any_choice(
    router: str, calibration: Calibrate, tmp_path: Path
) -> None:
    model = grouped()
    run(model, calibration(), "expert-drop", {"keep": 7, "router": router})
    assert {len(left) for left in kept(model).values()} == {7}
    save(model, tmp_path / "artifact")
    assert torch.equal(logits(load(tmp_path / "artifact")), logits(model))


def test_a_masked_router_keeps_to_its_groups() -> None:
    """With every expert kept it is transformers' own."""
    model, whole = grouped(), grouped()
    model.apply(KeepExperts(block=1, experts=tuple(range(12)), router="mask"))
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    ours, theirs = (one.layer(1).mlp.gate(x) for one in (model, whole))
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1].sort().values, theirs[1].sort().values)
    assert torch.equal(ours[2].sort().values, theirs[2].sort().values)


def test_experts_in_any_order_stay_in_their_groups() -> None:
    model, other = grouped(), grouped()
    model.apply(KeepExperts(block=1, experts=(11, 0, 8, 3), router="rows"))
    other.apply(KeepExperts(block=1, experts=(0, 3, 8, 11), router="rows"))
    assert torch.equal(logits(model), logits(other))


@pytest.mark.parametrize("chosen", [1, 2, 3])
def test_losses_of_subsets_are_those_of_the_pruned_layers(
    chosen: int, calibration: Calibrate
) -> None:
    tokens = calibration(padded=True)
    model = grouped(chosen=chosen)
    with torch.no_grad():
        for block in tokens.walk(model):
            if not block.experts:
                continue
            losses = block.collect(SubsetLosses(4))
            assert len(losses.losses) == 3**4
            assert all(
                sorted(e // 3 for e in dropped) == [0, 1, 2, 3]
                for dropped in losses.subsets.tolist()
            )
            errors = block.collect(SubsetErrors(4))
            whole = outputs(block, KeepExperts(block=block.index, experts=block.experts))
            for row in (0, 7, 40, 80):
                dropped = losses.subsets[row].tolist()
                left = tuple(e for e in range(12) if e not in dropped)
                pruned = outputs(block, KeepExperts(block=block.index, experts=left))
                loss = sum(float((a - b).norm()) for a, b in zip(whole, pruned, strict=True))
                assert float(losses.losses[row]) == pytest.approx(loss, rel=1e-4)
                mask = torch.tensor([[e in left for e in range(12)]])
                assert float(errors.losses(mask)[0]) == pytest.approx(loss, rel=1e-4)


def test_greedy_and_genetic_search_reach_the_best_subset(calibration: Calibrate) -> None:
    best, near = [grouped(groups=2), grouped(groups=2)], grouped(groups=2)
    run(best[0], calibration(), "eep", {"keep": 8})
    options = {"keep": 8, "population": 60, "iterations": 20, "field": 1, "best": 1}
    run(best[1], calibration(), "moe-i2-prune", options)
    assert kept(best[0]) == kept(best[1])
    report = run(near, calibration(), "greedy", {"keep": 8})
    assert all(note.data["loss"] > 0 for note in report.notes if note.name == "greedy.losses")


def test_importance_is_the_loss_with_the_expert_masked(calibration: Calibrate) -> None:
    tokens = calibration()
    with torch.no_grad():
        importance = leave_one_out(grouped(), tokens)
        for index, expert in itertools.product((1, 2), (0, 5)):
            model = grouped()
            others = tuple(e for e in range(12) if e != expert)
            model.apply(KeepExperts(block=index, experts=others, router="mask"))
            last = list(tokens.walk(model))[-1]
            [loss] = tokens.losses(model, [last.outputs()])
            assert importance.losses[index][expert] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("name", ["m-smoe", "hc-smoe"])
def test_merging_needs_no_even_groups(name: str, calibration: Calibrate) -> None:
    model = grouped()
    run(model, calibration(), name, {"keep": 5})
    assert sum(map(len, kept(model).values())) == 10
    with pytest.raises(Refused, match=r"merged across its groups|merged, masked"):
        run(model, calibration(), "eep", {"keep": 4})
