"""Expert, Layer and Block Drop beyond the paper: scores taken again, routers kept, dense models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.calibration.statistics.routing import RouterMass
from harness.calibration.walk import Calibration
from harness.method.recipe import BoundStep, StepReport, compress
from harness.method.registry import build
from harness.model.edits import DropMoE, KeepExperts, SetWeights
from harness.model.view import MoEModel

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]


def run(
    model: MoEModel, calibration: Calibration, method: str, **options: Any
) -> tuple[MoEModel, StepReport]:
    [report] = compress(model, [BoundStep(build(method, options), calibration)])
    return model, report


def masses(model: MoEModel, calibration: Calibration) -> dict[int, Tensor]:
    with torch.no_grad():
        return {
            block.index: block.collect(RouterMass()).mass
            for block in calibration.walk(model)
            if block.experts
        }


def without_lowest(model: MoEModel, calibration: Calibration, blocks: list[int]) -> KeepExperts:
    """The edit that drops the lowest-scoring expert of all in these blocks."""
    scores = masses(model, calibration)
    layers = {block.index: block.experts for block in model.blocks}
    places = [(block, expert) for block in blocks for expert in layers[block]]
    block, worst = min(places, key=lambda place: float(scores[place[0]][place[1]]))
    return KeepExperts(block=block, experts=tuple(e for e in layers[block] if e != worst))


def scaled(model: MoEModel, scales: tuple[float, ...]) -> MoEModel:
    """The model with what each block adds to the residual stream made smaller or larger."""
    for block, scale in zip(model.blocks, scales, strict=True):
        names = [m.name for m in block.matrices() if m.name.endswith((".down", "attention.o"))]
        model.apply(SetWeights.of(block.index, {n: block.weight(n) * scale for n in names}))
    return model


@pytest.mark.parametrize("method", ["layer-drop", "block-drop"])
@pytest.mark.parametrize(
    ("family", "scales"), [("mixtral", (0.2, 1, 1, 5)), ("qwen2", (0.2, 1, 5, 5))]
)
def test_rescored_drops_are_steps_of_one_drop(
    method: str, family: str, scales: tuple[float, ...], tiny: Tiny, calibration: Calibrate
) -> None:
    """On models made so that similarities taken once decide otherwise."""
    tokens = calibration(sequences=2)
    model, report = run(scaled(tiny(family), scales), tokens, method, drop=3, rescore=True)
    steps = scaled(tiny(family), scales)
    for _ in range(3):
        run(steps, tokens, method, drop=1)
    at_once, _ = run(scaled(tiny(family), scales), tokens, method, drop=3)
    assert model.edits == steps.edits
    assert model.edits != at_once.edits
    if method == "layer-drop":
        assert sorted(report.notes[0].data) == list(range(4))


def test_rescoring_changes_decisions(tiny: Tiny, calibration: Calibrate) -> None:
    """Later layers score otherwise once the layers before them are pruned."""
    edits = set()
    for rescore in (False, True):
        model, _ = run(tiny("mixtral"), calibration(), "expert-drop", keep=2, rescore=rescore)
        edits.add(tuple(block.experts for block in model.blocks))
    assert len(edits) == 2


def test_experts_are_rescored_block_by_block(
    family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    """Block after block, one expert after the other, through the model as it is."""
    model, report = run(tiny(family), calibration(), "expert-drop", keep=3, rescore=True)
    naive = tiny(family)
    for block in naive.moe_blocks():
        while len(block.experts) > 3:
            naive.apply(without_lowest(naive, calibration(), [block.index]))
    assert model.edits == naive.edits
    left = masses(naive, calibration())
    for index, layer in report.notes[0].data.items():
        for expert in model.blocks[index].experts:
            assert layer[expert] == pytest.approx(float(left[index][expert]))
        assert len(layer) == 6


def test_experts_are_rescored_over_the_whole_model(tiny: Tiny, calibration: Calibrate) -> None:
    model, _ = run(
        tiny("mixtral"), calibration(), "expert-drop", keep=4, scope="global", rescore=True
    )
    naive = tiny("mixtral")
    for _ in range(4 * 2):
        naive.apply(without_lowest(naive, calibration(), list(naive.numbers)))
    assert model.edits == naive.edits


def test_global_rescoring_drops_a_layer_with_its_last_expert(
    tiny: Tiny, calibration: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Planted(RouterMass):
        def start(self, block: Any) -> None:
            super().start(block)
            self.mass += 0.0 if block.index == 0 else 1.0

        def update(self, seen: Any) -> None:
            pass

    monkeypatch.setattr("methods.experts.expert_drop.RouterMass", Planted)
    model, _ = run(
        tiny("mixtral"), calibration(), "expert-drop", keep=4, scope="global", rescore=True
    )
    assert model.edits[5] == DropMoE(block=0)
    assert [len(block.experts) for block in model.blocks] == [0, 4, 6, 6]


@pytest.mark.parametrize("router", ["rows", "mask", "preserve"])
@pytest.mark.parametrize("rescore", [False, True])
def test_what_becomes_of_the_router(
    router: str, rescore: bool, tiny: Tiny, calibration: Calibrate
) -> None:
    """The same experts of the first layer; coefficients grow with rows cut alone."""
    model, _ = run(
        tiny("qwen2_moe"), calibration(), "expert-drop", keep=3, router=router, rescore=rescore
    )
    assert all(edit.data()["router"] == router for edit in model.edits)
    block = model.blocks[0]
    assert len(block.experts) == 3
    assert len(block.rows) == (3 if router == "rows" else 6)
    rows, _ = run(tiny("qwen2_moe"), calibration(), "expert-drop", keep=3)
    if not rescore:
        assert block.experts == rows.blocks[0].experts
    with torch.no_grad():
        seen = masses(model, calibration())[0].sum()
    tokens = 6 * 12
    assert (float(seen) == pytest.approx(tokens)) == (router == "rows")


def test_layer_drop_of_dense_models(tiny: Tiny, calibration: Calibrate) -> None:
    """The MLPs whose output turns the residual stream least, computed anew here."""
    base = tiny("llama")
    similar = {}
    with torch.no_grad():
        for block in calibration().walk(base):
            layer, hidden = block.layer, torch.cat(block.inputs.batches)
            grabbed: dict[str, Tensor] = {}
            handle = layer.post_attention_layernorm.register_forward_pre_hook(
                lambda _, args: grabbed.update(h=args[0])  # noqa: B023
            )
            trace = block.inputs.trace
            parts = []
            for batch, states in enumerate(block.inputs.batches):
                out = layer(states, **trace.arguments(batch, block.index))
                out = out[0] if isinstance(out, tuple) else out
                before = grabbed["h"].double()
                parts.append(torch.cosine_similarity(before, out.double(), dim=-1).flatten())
            handle.remove()
            similar[block.index] = float(torch.cat(parts).mean())
            assert len(torch.cat(parts)) == hidden.shape[0] * hidden.shape[1]
    model, report = run(tiny("llama"), calibration(), "layer-drop", drop=2)
    assert report.notes[0].data == pytest.approx(similar, abs=1e-6)
    order = sorted(similar, key=similar.__getitem__, reverse=True)
    assert [edit.block for edit in model.edits] == order[:2]
    assert all(not model.blocks[index].matrices("dense") for index in order[:2])
    assert all(model.blocks[index].matrices("attention") for index in order[:2])


def test_a_dense_block_of_a_moe_model_is_no_layer(tiny: Tiny, calibration: Calibrate) -> None:
    model, report = run(tiny("deepseek_v2"), calibration(), "layer-drop", drop=3)
    assert sorted(report.notes[0].data) == [1, 2, 3]
    assert model.blocks[0].matrices("dense")
