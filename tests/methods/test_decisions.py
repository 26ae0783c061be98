"""Decisions against direct computations on small models of every family."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.calibration.states import run
from harness.calibration.statistics.outputs import Outputs
from harness.calibration.statistics.routing import RouterMass
from harness.calibration.statistics.subset_losses import SubsetLosses
from harness.calibration.walk import Calibration, LiveBlock
from harness.errors import Refused
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.edits import DropMoE, KeepExperts
from harness.model.view import MoEModel

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]


def outputs(block: LiveBlock, edit: KeepExperts) -> list[Tensor]:
    """What leaves the MoE layer of an edited block, valid tokens of each batch."""
    layer, trace = block.edited(edit), block.inputs.trace
    assert layer is not None
    outputs: list[Tensor] = []
    mlp: Any = layer.mlp
    mlp.register_forward_hook(lambda _module, _arguments, out: outputs.append(out))
    for batch, hidden in enumerate(block.inputs.batches):
        run(layer, hidden, trace.arguments(batch, block.index), block.index)
        valid = trace.valid(batch)
        outputs[-1] = outputs[-1].flatten(0, 1) if valid is None else outputs[-1][valid]
    return outputs


@pytest.mark.parametrize("dropped", [1, 2, 3])
@pytest.mark.parametrize("padded", [False, True])
def test_subset_losses_are_those_of_the_pruned_layers(
    family: str, dropped: int, padded: bool, tiny: Tiny, calibration: Calibrate
) -> None:
    """Every subset of every layer, run for real: shared experts, any routing, padding."""
    model, tokens = tiny(family), calibration(padded=padded)
    with torch.no_grad():
        for block in tokens.walk(model):
            if not block.experts:
                continue
            whole = block.collect(Outputs()).batches
            losses = block.collect(SubsetLosses(dropped))
            subsets = list(itertools.combinations(block.experts, dropped))
            assert losses.subsets.tolist() == [list(subset) for subset in subsets]
            for subset, ours in zip(subsets, losses.losses.tolist(), strict=True):
                kept = tuple(e for e in block.experts if e not in subset)
                parts = outputs(block, KeepExperts(block=block.index, experts=kept))
                wanted = sum(
                    float((a.double() - b.double()).norm())
                    for a, b in zip(whole, parts, strict=True)
                )
                assert ours == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_global_expert_drop_empties_layers_and_lowers_top_k(
    tiny: Tiny, calibration: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores made so that one layer keeps nothing and one keeps a single expert."""
    model = tiny("mixtral")

    class Planted(RouterMass):
        def start(self, block: object) -> None:
            super().start(block)  # type: ignore[arg-type]
            level = {0: 0.0, 1: 10.0, 2: 10.0, 3: 10.0}[block.index]  # type: ignore[attr-defined]
            self.mass += level
            if block.index == 1:  # type: ignore[attr-defined]
                self.mass[:5] = 1.0
                self.mass[5] = 11.0

        def update(self, seen: object) -> None:
            pass

    monkeypatch.setattr("methods.experts.expert_drop.RouterMass", Planted)
    step = BoundStep(build("expert-drop", {"keep": 3, "scope": "global"}), calibration())
    compress(model, [step])
    assert model.edits[0] == DropMoE(block=0)
    assert model.edits[1] == KeepExperts(block=1, experts=(5,))
    assert [len(block.experts) for block in model.blocks] == [0, 1, 5, 6]
    assert model.blocks[1].top_k == 1


def test_skipping_leaves_layers_that_choose_one_expert(tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("mixtral")
    model.apply(KeepExperts(block=2, experts=(4,)))
    compress(model, [BoundStep(build("eep-skip", {}), calibration())])
    assert [block.beta is not None for block in model.blocks] == [True, True, False, True]
    single = tiny("mixtral")
    for block in single.blocks:
        single.apply(KeepExperts(block=block.index, experts=(4,)))
    with pytest.raises(Refused, match="mixtral chooses one expert per token: there is none to"):
        compress(single, [BoundStep(build("eep-skip", {}), calibration())])


def test_random_follows_its_seed(tiny: Tiny, calibration: Calibrate) -> None:
    model, tokens = tiny("mixtral"), calibration()

    def experts(seed: int) -> list[tuple[int, ...]]:
        items = build("random", {"keep": 3, "seed": seed}).compress(model, tokens)
        return [item.experts for item in items if isinstance(item, KeepExperts)]

    assert experts(0) == experts(0)
    assert experts(0) != experts(1)
    assert len(set(experts(0))) > 1  # each layer draws anew
    drawn = torch.zeros(6)
    for seed in range(200):
        for kept in experts(seed)[:1]:
            drawn[list(kept)] += 1
    assert drawn.min() > 70  # 100 expected, standard deviation 7
