"""Wanda, magnitude and SparseGPT on small models: formulas, factors, dense models, recipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.calibration.statistics.inputs import Covariances
from harness.calibration.walk import Calibration
from harness.errors import Refused
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.method.sparsity import below, lowest
from harness.model.edits import LowRank, SetWeights
from harness.model.view import MoEModel
from methods.sparsity.wanda import by_mass

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]
METHODS = ["magnitude", "sparsegpt", "wanda"]


def run(model: MoEModel, calibration: Calibration, method: str, **options: Any) -> MoEModel:
    compress(model, [BoundStep(build(method, options), calibration)])
    return model


def logits(model: MoEModel) -> Tensor:
    with torch.no_grad():
        return model.lm(torch.arange(20).reshape(2, 10)).logits  # type: ignore[no-any-return]


def test_lowest_and_below() -> None:
    scores = torch.tensor([[3.0, 1.0, 1.0, 2.0], [0.0, 5.0, 0.0, 0.0]])
    assert lowest(scores, 1).tolist() == [[False, True, False, False], [True, False, False, False]]
    assert lowest(scores, 0).sum() == 0
    assert below(scores, 0.5).sum() == 5  # the 4th of 8, counted from 0, and its tie
    assert below(scores, 0.01).sum() == 3


@pytest.mark.parametrize("sparsity", [0.2, 0.5])
def test_the_variant_takes_a_share_of_every_rows_mass(sparsity: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(32, 64, generator=generator).abs() * torch.rand(32, 1, generator=generator)
    marked = by_mass(scores, sparsity)
    assert float(marked.float().mean()) == pytest.approx(sparsity, abs=2e-3)
    assert len(set(marked.sum(1).tolist())) > 1  # counts differ, shares do not
    lost = (scores * marked).sum(1) / scores.sum(1)
    nxt = scores.masked_fill(marked, torch.inf).min(1).values / scores.sum(1)
    alpha = lost.max()
    assert bool((lost + nxt > alpha).all())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [{"sparsity": 0.5}, {"pattern": "2:4"}, {"pattern": "1:4"}])
def test_zeros_are_where_they_should_be(
    method: str, budget: dict[str, Any], family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    model, base = tiny(family), tiny(family)
    run(model, calibration(), method, **budget)
    for block, before in zip(model.blocks, base.blocks, strict=True):
        for matrix in block.matrices():
            weight, old = block.weight(matrix), before.weight(matrix)
            if matrix.part not in ("experts", "shared"):
                assert torch.equal(weight, old)
            elif "pattern" in budget:
                zeros = int(budget["pattern"][0])
                counts = (weight.reshape(len(weight), -1, 4) == 0).sum(-1)
                assert bool((counts == zeros).all())
            else:
                assert float((weight == 0).float().mean()) == pytest.approx(0.5, abs=0.01)
            if method != "sparsegpt":
                assert bool(((weight == old) | (weight == 0)).all())


@pytest.mark.parametrize("method", METHODS)
def test_half_precision(
    method: str, random_lm: Callable[..., PreTrainedModel], calibration: Calibrate
) -> None:
    model = MoEModel(random_lm("mixtral").bfloat16(), ref="mixtral", sha256="bf16")
    dtypes = set()
    for live in calibration().walk(model):
        dtypes.add(live.collect(Covariances("experts")).sums["experts.0.up"].dtype)
    assert dtypes == {torch.float32}
    run(model, calibration(), method, pattern="2:4")
    for block in model.blocks:
        for matrix in block.matrices("experts"):
            weight = block.weight(matrix)
            assert weight.dtype == torch.bfloat16
            assert float((weight == 0).float().mean()) == 0.5
    assert torch.isfinite(logits(model)).all()


@pytest.mark.parametrize("method", ["sparsegpt", "wanda"])
def test_propagate_original(method: str, tiny: Tiny, calibration: Calibrate) -> None:
    """Every block gets what it gets when no edit is ever applied."""
    base = tiny("mixtral")
    with torch.no_grad():
        unapplied = list(build(method, {"sparsity": 0.5}).compress(base, calibration()))
    free = run(tiny("mixtral"), calibration(), method, sparsity=0.5, propagate="original")
    bound = run(tiny("mixtral"), calibration(), method, sparsity=0.5)
    assert len(unapplied) == 4
    for edit in unapplied:
        assert isinstance(edit, SetWeights)
        same = []
        for name, tensor in edit.tensors.items():
            assert torch.equal(free.blocks[edit.block].weight(name), tensor)
            same.append(torch.equal(bound.blocks[edit.block].weight(name), tensor))
        assert all(same) == (edit.block == 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["mistral", "qwen2"])
def test_dense_models(method: str, family: str, tiny: Tiny, calibration: Calibrate) -> None:
    """The MLPs by default, attention when named."""
    model = run(tiny(family), calibration(), method, pattern="2:4")
    for block in model.blocks:
        for matrix in block.matrices():
            share = float((block.weight(matrix) == 0).float().mean())
            assert share == (0.5 if matrix.part == "dense" else 0.0)
    named = run(tiny(family), calibration(), method, pattern="2:4", targets=["attention"])
    assert float((named.blocks[1].weight("attention.o") == 0).float().mean()) == 0.5


@pytest.mark.parametrize("method", METHODS)
def test_the_factors_of_low_rank_experts(method: str, tiny: Tiny, calibration: Calibrate) -> None:
    """They are matrices like others: half of each is zeroed, from what each of them reads."""
    model = tiny("qwen2_moe")
    generator = torch.Generator().manual_seed(0)
    for block in model.blocks:
        factors = {
            matrix.name: (
                torch.randn(matrix.shape[0], 4, generator=generator),
                torch.randn(4, matrix.shape[1], generator=generator),
            )
            for matrix in block.matrices("experts")
        }
        model.apply(LowRank.of(block.index, factors))
    with pytest.raises(Refused, match=r"'4:8' does not divide the 4 inputs of experts.0.gate.u"):
        run(model, calibration(), method, pattern="4:8")
    run(model, calibration(), method, pattern="2:4")
    for block in model.blocks:
        names = [matrix.name for matrix in block.matrices("experts")]
        assert len(names) == 6 * 3 * 2
        assert all(float((block.weight(n) == 0).float().mean()) == 0.5 for n in names)
    assert torch.isfinite(logits(model)).all()


def test_wanda_scores_a_factor_by_what_it_reads(tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("mixtral")
    u, v = torch.randn(24, 2), torch.randn(2, 16)
    model.apply(LowRank.of(0, {"experts.1.gate": (u, v)}))
    [edit, *_] = build("wanda", {"sparsity": 0.5}).compress(model, calibration())
    assert isinstance(edit, SetWeights)
    block = next(iter(calibration().walk(model)))
    moments = block.collect(Covariances("experts")).sums
    inner = (v.double() @ moments["experts.1.gate.v"] @ v.double().T).diagonal().sqrt()
    torch.testing.assert_close(moments["experts.1.gate.u"].diagonal().sqrt(), inner)
    scores = u.abs() * inner.float()
    assert torch.equal(edit.tensors["experts.1.gate.u"], u.masked_fill(lowest(scores, 1), 0.0))


def test_magnitude_and_a_draw_commute(tiny: Tiny, calibration: Calibrate) -> None:
    """Neither looks at what the other changes."""
    first = run(tiny("qwen2_moe"), calibration(), "random", keep=3)
    run(first, calibration(), "magnitude", sparsity=0.5)
    second = run(tiny("qwen2_moe"), calibration(), "magnitude", sparsity=0.5)
    run(second, calibration(), "random", keep=3)
    assert torch.equal(logits(first), logits(second))


@pytest.mark.parametrize("slim", METHODS)
@pytest.mark.parametrize(
    ("trim", "options"),
    [("expert-drop", {"keep": 3}), ("layer-drop", {"drop": 1}), ("block-drop", {"drop": 1})],
)
def test_trimming_and_slimming_in_any_order(
    slim: str, trim: str, options: dict[str, Any], tiny: Tiny, calibration: Calibrate
) -> None:
    """What is left is half zeros either way, and as much is left."""
    shapes = []
    for order in ([trim, slim], [slim, trim]):
        model = tiny("deepseek_v2")
        for method in order:
            chosen = options if method == trim else {"pattern": "2:4"}
            run(model, calibration(), method, **chosen)
        left = [block.weight(m) for block in model.blocks for m in block.matrices("experts")]
        shapes.append([tuple(weight.shape) for weight in left])
        assert all(float((weight == 0).float().mean()) == 0.5 for weight in left)
        assert torch.isfinite(logits(model)).all()
    assert sorted(shapes[0]) == sorted(shapes[1])
