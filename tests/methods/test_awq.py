"""AWQ: scales that change nothing, a search and a clipping that do what running tokens says."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.calibration.statistics.inputs import Covariances, Magnitudes
from harness.calibration.walk import Calibration
from harness.errors import Refused
from harness.method.quantization.grid import rounded
from harness.method.recipe import BoundStep, StepReport, compress
from harness.model.edits import (
    DropBlock,
    DropMoE,
    KeepExperts,
    LowRank,
    MergeExperts,
    SetWeights,
    SkipExperts,
)
from harness.model.families.family import FAMILIES
from harness.model.files.artifact import load, save
from harness.model.quantized.scheme import Scheme
from harness.model.view import Block, MoEModel
from methods.quantization.awq.awq import AWQ
from methods.quantization.awq.clip import clipped
from methods.quantization.awq.groups import groups
from methods.quantization.awq.scale import Scales
from methods.quantization.awq.scale_search import candidates, search
from methods.quantization.rtn import RTN
from tests.models import from_config, tiny_config

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]
SCHEME = Scheme(bits=4, group=32)


@pytest.fixture
def rough() -> Callable[..., MoEModel]:
    """Small models whose norms and biases are random, too; `changes` are the configuration's."""

    def build(family: str, **changes: Any) -> MoEModel:
        lm = from_config(tiny_config(family, **changes), dtype=torch.float32)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in lm.parameters():
                if parameter.dim() == 1:
                    parameter.uniform_(0.5, 1.5, generator=generator)
                else:
                    parameter.normal_(0, 0.3, generator=generator)
        return MoEModel(lm, ref=family, sha256=f"rough {family} {changes}")

    return build


def logits(model: MoEModel) -> Tensor:
    with torch.no_grad():
        return model.lm(torch.arange(40).reshape(4, 10)).logits  # type: ignore[no-any-return]


def factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    return u[:, :rank] * s[:rank], v[:rank]


def low_rank(model: MoEModel, index: int, *names: str) -> None:
    block = model.blocks[index]
    model.apply(LowRank.of(index, {name: factors(block.weight(name), 5) for name in names}))


def whole(model: MoEModel) -> None:
    """Nothing is changed."""


def shapes(model: MoEModel) -> None:
    """Low-rank and dropped; the experts uneven, merged, preserved, masked and skipped."""
    if not model.experts:
        low_rank(model, 1, "dense.up", "dense.down", "attention.q", "attention.o")
        model.apply(DropMoE(block=2))
        model.apply(DropBlock(block=3))
        return
    routed = [block.index for block in model.moe_blocks()]
    model.apply(KeepExperts(block=routed[0], experts=(0, 1, 3, 5)))
    low_rank(model, routed[0], "experts.0.up", "experts.1.down", "experts.3.gate", "attention.o")
    model.apply(
        MergeExperts(
            block=routed[1], groups=((0, 4), (1,), (2, 3, 5)), weights=((1, 1), (1,), (1, 2, 3))
        )
    )
    model.apply(KeepExperts(block=routed[-1], experts=(1, 2, 4, 5), router="preserve"))
    model.apply(SkipExperts(block=routed[-1], beta=0.3))
    model.apply(KeepExperts(block=routed[1], experts=(0, 1), router="mask"))


def move_random_scales(model: MoEModel, *, router: bool = True) -> dict[str, str]:
    """Scale all that can be scaled, round nothing; what could not be is returned, and why."""
    generator = torch.Generator().manual_seed(5)
    refused: dict[str, str] = {}
    for block in model.blocks:
        able, left = groups(block, [m for m in block.matrices() if m.part != "router"])
        refused |= left
        scales = Scales(block)
        for group in able:
            size = torch.empty(group.leader.shape[1]).uniform_(-1.5, 1.5, generator=generator)
            readers = [reader for reader in group.readers if router or reader.part != "router"]
            scales.move(size.exp(), group.producer, readers)
        model.apply(SetWeights.of(block.index, {n: scales.scaled(n) for n in scales.names}))
    return refused


def largest_change(model: MoEModel, before: Tensor) -> float:
    """Largest error of any logit, relative to the largest."""
    return float((logits(model) - before).abs().max() / before.abs().max())


def usual_change(model: MoEModel, before: Tensor) -> float:
    """Median error of a token's logits: that of tokens whose experts stay the same."""
    change = (logits(model) - before).norm(dim=-1) / before.norm(dim=-1)
    return float(change.median())


@pytest.mark.parametrize("change", [whole, shapes])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_scaling_alone_changes_no_logit(
    family: str, change: Callable[[MoEModel], None], rough: Callable[..., MoEModel]
) -> None:
    model = rough(family)
    change(model)
    before = logits(model)
    was = {
        (block.index, name): block.weight(name)
        for block in model.blocks
        for name in ("attention_norm", "mlp_norm", "router", "router.shared", "shared.down")
        if block.has(name)
    }
    left = move_random_scales(model)
    assert largest_change(model, before) < 1e-5
    for (index, name), weight in was.items():
        assert not torch.allclose(Block(model, index).weight(name), weight)
    assert set(left) <= {"attention.v", "attention.kv_a", "attention.kv_b"}


@pytest.mark.parametrize(
    ("family", "changes", "left"),
    [
        ("deepseek_v2", {"q_lora_rank": 8}, {"attention.q_a": "not linear"}),
        ("olmoe", {"clip_qkv": 0.3}, {"attention.v": "clamps"}),
        ("mixtral", {"num_key_value_heads": 1}, {"attention.v": "one to one"}),
        ("qwen2_moe", {}, {"attention.v": "bias"}),
        ("mixtral", {}, {}),
    ],
)
def test_what_cannot_be_scaled_exactly_is_left(
    family: str, changes: dict[str, Any], left: dict[str, str], rough: Callable[..., MoEModel]
) -> None:
    model = rough(family, **changes)
    before = logits(model)
    refused = move_random_scales(model)
    assert largest_change(model, before) < 1e-5
    assert {name for name in refused if not name.startswith("attention.kv_")} == set(left)
    for name, reason in left.items():
        assert reason in refused[name]


def test_a_router_that_is_left_out_routes_on_other_inputs(rough: Callable[..., MoEModel]) -> None:
    model = rough("mixtral")
    before = logits(model)
    move_random_scales(model, router=False)
    assert largest_change(model, before) > 0.1


def test_a_norm_rounded_to_bf16_costs_nothing(tiny: Tiny) -> None:
    """The readers make up for what the norm really stores."""
    model = tiny("mixtral")
    generator = torch.Generator().manual_seed(0)
    norm = torch.rand(16, generator=generator).bfloat16()
    norm[3] = 0
    block = model.blocks[0]
    model.layer(0).to(torch.bfloat16)
    model.apply(SetWeights.of(0, {"mlp_norm": norm}))
    [group], _ = groups(block, [m for m in block.matrices("experts") if m.name.endswith(".gate")])
    scales = Scales(block)
    scales.move(torch.rand(16, generator=generator) + 0.5, group.producer, group.readers)
    stored = scales.scaled("mlp_norm").bfloat16().float()
    assert not torch.equal(stored, norm.float())
    torch.testing.assert_close(stored * scales.columns("router"), norm.float())


def inputs(tokens: int, width: int) -> Tensor:
    """Some channels much larger than others."""
    generator = torch.Generator().manual_seed(1)
    size = torch.exp(torch.randn(width, generator=generator) * 1.5)
    mix = torch.eye(width) + 0.2 * torch.randn(width, width, generator=generator)
    return torch.randn(tokens, width, generator=generator) @ mix * size


def on_grid(weight: Tensor) -> Tensor:
    return rounded(weight, SCHEME).dequantise()


@pytest.mark.parametrize("duo", [False, True])
def test_the_search_finds_what_running_all_tokens_finds(duo: bool) -> None:
    """Two matrices that share some tokens, with an input width that is no multiple of a group."""
    x, width = inputs(300, 40), 40
    routed = [x, x[::3]]
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(24, width, generator=generator) for _ in routed]
    pairs = [(weight, some.T @ some) for weight, some in zip(weights, routed, strict=True)]
    mean = x.abs().mean(0)
    size = torch.cat(weights).abs()
    peaks = torch.cat([g.amax(1, True).expand_as(g) for g in torch.split(size, 32, 1)], 1)
    share = (size / (peaks + 1e-6)).mean(0)

    def error(scale: Tensor) -> float:
        return sum(
            float(F.mse_loss(some / scale @ on_grid(weight * scale).T, some @ weight.T)) * len(some)
            for weight, some in zip(weights, routed, strict=True)
        )

    scales: dict[float | None, Tensor] = {None: torch.ones(width)}
    for step in range(not duo, 20):
        power = step / 20
        scale = mean**power / (share ** (1 - power) + 1e-4 if duo else 1)
        scales[power] = scale / (scale.max() * scale.min()).sqrt()
    errors = {ratio: error(scale) for ratio, scale in scales.items()}
    stacks = [(weight[None, None], moment[None, None]) for weight, moment in pairs]
    [ratio], scale = search(mean[None], stacks, SCHEME, torch.float32, ratios=20, duo=duo)
    assert ratio == min(errors, key=lambda one: errors[one])
    assert errors[ratio] < 0.8 * errors[None]
    torch.testing.assert_close(scale[0], scales[ratio], rtol=1e-3, atol=0)


def test_producers_side_by_side_are_searched_apart() -> None:
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(3, 1, 24, 40, generator=generator)
    x = torch.stack([inputs(100, 40), inputs(100, 40).flip(1), torch.zeros(100, 40)])
    moment, mean = (x.mT @ x)[:, None], x.abs().mean(1)
    ratios, scales = search(mean, [(weight, moment)], SCHEME, torch.float32, ratios=9, duo=False)
    for place in range(2):
        here = slice(place, place + 1)
        pair = (weight[here], moment[here])
        [ratio], scale = search(mean[here], [pair], SCHEME, torch.float32, ratios=9, duo=False)
        assert ratio == ratios[place]
        torch.testing.assert_close(scale[0], scales[place])
    assert len(set(ratios)) == 3  # the last saw nothing: no scaling
    assert ratios[2] is None


def test_no_scaling_is_tried_and_is_exact() -> None:
    flat = torch.ones(1, 32)  # every channel as large as any other: all candidates are no scaling
    assert len(list(candidates(flat, None, 20))) == 20
    weight = torch.randn(1, 1, 8, 32, generator=torch.Generator().manual_seed(0))
    moment = torch.eye(32)[None, None]
    ratios, scale = search(flat, [(weight, moment)], SCHEME, torch.float32, ratios=20, duo=False)
    assert ratios == [None]
    assert torch.equal(scale, flat)
    broken = [(weight, moment * torch.inf)]
    with pytest.raises(Refused, match="not finite"):
        search(flat, broken, SCHEME, torch.float32, ratios=2, duo=False)


@pytest.mark.parametrize("tokens", [1, 200])
def test_clipping_is_what_running_all_tokens_finds(tokens: int) -> None:
    """Also from a single token; where whole rows gain, and only there."""
    x = inputs(tokens, 48)
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(40, 48, generator=generator)
    weight[:, 5] *= 6
    ours = clipped(weight, x.T @ x, SCHEME, torch.float32, shrink=0.5, steps=20)
    wanted = weight.clone()
    for group in (slice(0, 32), slice(32, 48)):
        part, seen = weight[:, group], x[:, group]
        least = torch.full((40,), math.inf)
        for step in range(10):
            limit = part.abs().amax(1, keepdim=True) * (1 - step / 20)
            cut = part.clamp(-limit, limit)
            error = ((on_grid(cut) - part) @ seen.T).square().sum(1)
            better = error < least * (1 - 1e-6)
            least = torch.where(better, error, least)
            wanted[:, group] = torch.where(better[:, None], cut, wanted[:, group])

    def off(some: Tensor) -> Tensor:
        return ((on_grid(some) - weight) @ x.T).square().sum(1)

    gains = off(wanted) < off(weight)
    assert int(gains.sum()) > 0
    wanted = torch.where(gains[:, None], wanted, weight)
    assert float((ours != wanted).any(1).float().mean()) < 0.1  # ties in fp32
    assert bool((off(ours) <= off(weight) * (1 + 1e-5)).all())
    assert float(off(ours).sum()) < 0.9 * float(off(weight).sum())


def run(model: MoEModel, calibration: Calibration, **options: Any) -> StepReport:
    [report] = compress(model, [BoundStep(AWQ(group=32, **options), calibration)])
    return report


def notes(report: StepReport) -> dict[str, Any]:
    return {note.name: note.data for note in report.notes}


FEW: dict[str, Any] = {"ratios": 4, "steps": 4}


@pytest.mark.parametrize("options", [{}, {"symmetric": True, "duo": True, "bits": 3, **FEW}])
def test_its_objective_is_below_that_of_rounding(
    family: str, options: dict[str, Any], tiny: Tiny, calibration: Calibrate
) -> None:
    model = tiny(family)
    noted = notes(run(model, calibration(), targets=everything(model), **options))
    assert set(noted["quantization.error"]) == set(model.numbers)
    for errors in noted["quantization.error"].values():
        assert 0 < errors["ours"] < errors["rtn"]
    assert noted["quantization.rounded"] == {}
    assert set(noted["awq.scales"][3]["ratios"]) >= {"mlp_norm", "attention_norm", "experts.2.up"}


def everything(model: MoEModel) -> frozenset[str]:
    return frozenset(m.part for block in model.blocks for m in block.matrices()) - {"router"}


@pytest.mark.parametrize("change", [whole, shapes])
def test_at_eight_bits_little_changes(
    family: str,
    change: Callable[[MoEModel], None],
    rough: Callable[..., MoEModel],
    calibration: Calibrate,
    tmp_path: Path,
) -> None:
    """Codes, scales, norms and routers are where they belong, in memory and on disk."""
    model = rough(family)
    change(model)
    before = logits(model)
    noted = notes(run(model, calibration(), bits=8, targets=everything(model), **FEW))
    assert any(noted["awq.scales"][1]["ratios"].values())
    assert 0 < usual_change(model, before) < 0.05
    for block in model.blocks:
        for matrix in block.matrices():
            assert (block.packed_scheme(matrix) is None) == (matrix.part == "router")
    save(model, tmp_path / "artifact")
    assert torch.equal(logits(load(tmp_path / "artifact")), logits(model))


def test_without_the_router_the_routing_is_another(
    rough: Callable[..., MoEModel], calibration: Calibrate
) -> None:
    model = rough("mixtral")
    before = logits(model)
    run(model, calibration(), bits=8, scale_router=False, **FEW)
    assert torch.equal(
        model.blocks[0].weight("router"), rough("mixtral").blocks[0].weight("router")
    )
    assert usual_change(model, before) > 0.1


def test_what_saw_too_few_tokens_is_rounded_and_recorded(
    tiny: Tiny, calibration: Calibrate
) -> None:
    model, base = tiny("qwen2_moe"), tiny("qwen2_moe")
    tokens = calibration(sequences=1)
    noted = notes(run(model, tokens, min_tokens=3, **FEW))
    starved = noted["quantization.rounded"]
    assert starved
    for index, matrices in starved.items():
        count = tokens.coverage[index].count.tolist()
        few = [expert for expert in range(6) if count[expert] < 3]
        roles = ("gate", "up", "down")
        assert matrices == {f"experts.{e}.{role}": count[e] for e in few for role in roles}
        ours, plain = (Block(one, index) for one in (model, base))
        for expert in few:
            assert noted["awq.scales"][index]["ratios"][f"experts.{expert}.up"] is None
            name = f"experts.{expert}.down"
            assert torch.equal(ours.weight(name), on_grid(plain.weight(name)))


def test_without_enough_tokens_anywhere_it_is_rtn(tiny: Tiny, calibration: Calibrate) -> None:
    ours, plain = tiny("qwen2_moe"), tiny("qwen2_moe")
    run(ours, calibration(), min_tokens=10**6)
    compress(plain, [BoundStep(RTN(group=32), calibration())])
    assert torch.equal(logits(ours), logits(plain))


def test_what_later_blocks_see(tiny: Tiny, calibration: Calibrate) -> None:
    """The first block is the same either way; with the original inputs its coming first is all."""
    models = {}
    for propagate in ("edited", "original"):
        models[propagate] = tiny("mixtral")
        run(models[propagate], calibration(), propagate=propagate, bits=3, **FEW)
    first, second = (model.blocks for model in models.values())
    name = "experts.2.gate"
    assert torch.equal(first[0].weight(name), second[0].weight(name))
    assert not torch.equal(first[2].weight(name), second[2].weight(name))


def test_sizes_of_inputs_are_means_of_what_the_matrices_read(
    tiny: Tiny, calibration: Calibrate
) -> None:
    """Padding does not count; taken once, they come from the cache."""
    model = tiny("qwen2_moe")
    tokens = calibration(padded=True, cache=True)
    for _ in range(2):
        block = next(iter(tokens.walk(model)))
        sizes, moments = Magnitudes(), Covariances()
        block.collect(sizes)
        for matrix in block.matrices():
            assert sizes.of(matrix).shape == matrix.shape[1:]
        block.collect(moments)
        for matrix in block.matrices():  # sum |x| is between these
            squares = moments.sums[matrix.name].diagonal()
            most = (squares * moments.tokens[matrix.name]).sqrt()
            assert bool((sizes.of(matrix) <= most * (1 + 1e-6)).all())
            assert bool((sizes.of(matrix) >= squares.sqrt() * (1 - 1e-6)).all())
    assert tokens.cache.folder is not None
    assert list(tokens.cache.folder.rglob("*.sealed"))
