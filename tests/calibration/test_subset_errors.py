"""Losses of subsets of experts against the pruned layers run for real."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from harness.calibration.observe import Seen
from harness.calibration.statistic import Statistic
from harness.calibration.statistics import choices
from harness.calibration.statistics.subset_errors import SubsetErrors
from harness.calibration.statistics.subset_losses import SubsetLosses
from harness.calibration.walk import Calibration
from harness.errors import Refused
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.edits import KeepExperts, MergeExperts, SkipExperts
from harness.model.shell import shell
from harness.model.view import Block, MoEModel
from tests.models import draw_weights, from_config, tiny_config

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]


class Layers(Statistic):
    """What entered and left the MoE layer, per batch."""

    cached: ClassVar[bool] = False

    def start(self, block: Block) -> None:
        self.batches: list[tuple[Tensor, Tensor]] = []

    def update(self, seen: Seen) -> None:
        self.batches.append((seen.x, seen.y))


def pruned_losses(block: Block, kept: Tensor, batches: list[tuple[Tensor, Tensor]]) -> list[float]:
    """The losses of layers that were pruned and run."""
    collected = []
    for row in kept:
        experts = tuple(torch.tensor(block.experts)[row].tolist())
        edit = KeepExperts(block=block.index, experts=experts)
        layer: Any = edit.apply(shell(block.layer), block.model.family)
        norms = [(layer.mlp(x[None])[0].double() - y.double()).norm() for x, y in batches]
        collected.append(float(sum(norms)))
    return collected


def subsets(experts: int, *sizes: int) -> Tensor:
    """Every set of these sizes, bool [sets, experts]."""
    sets = [one for size in sizes for one in itertools.combinations(range(experts), size)]
    kept = torch.zeros(len(sets), experts, dtype=torch.bool)
    for row, one in enumerate(sets):
        kept[row, list(one)] = True
    return kept


def wide(experts: int, top_k: int) -> MoEModel:
    """One block with many experts."""
    config = tiny_config(
        "qwen2_moe",
        num_hidden_layers=1,
        moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
        num_experts=experts,
        num_experts_per_tok=top_k,
    )
    lm = from_config(config, dtype=torch.float32)
    draw_weights(lm, 0)
    return MoEModel(lm, ref="wide", sha256="wide")


@pytest.mark.parametrize("table_bytes", [2**30, 0])
@pytest.mark.parametrize("padded", [False, True])
def test_errors_are_those_of_the_pruned_layers(
    family: str, table_bytes: int, padded: bool, tiny: Tiny, calibration: Calibrate
) -> None:
    """Every subset of every size, from all experts down to one: fewer than top-k too."""
    with torch.no_grad():
        for block in calibration(padded=padded).walk(tiny(family)):
            if not block.experts:
                continue
            layers = block.collect(Layers())
            errors = block.collect(SubsetErrors(5, table_bytes=table_bytes))
            kept = subsets(6, 6, 5, 4, 3, 2, 1)
            wanted = pruned_losses(block, kept, layers.batches)
            computed = errors.losses(kept)
            assert computed.dtype == torch.float64
            assert computed.tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-5)
            assert float(computed[0]) < 1e-5 < float(computed[1:].min())


@pytest.mark.parametrize(("experts", "top_k", "dropped"), [(16, 4, 8), (28, 3, 20), (70, 8, 35)])
def test_any_number_of_ranks(
    experts: int, top_k: int, dropped: int, calibration: Calibrate
) -> None:
    """With tables, and with more ranks than tables take on."""
    model = wide(experts, top_k)
    assert (top_k + dropped > choices.MOST_RANKS) == (experts > 16)
    [block] = calibration().walk(model)
    generator = torch.Generator().manual_seed(3)
    kept = torch.rand(40, experts, generator=generator).argsort(1).argsort(1) >= dropped
    with torch.no_grad():
        layers = block.collect(Layers())
        taken = block.collect(SubsetErrors(dropped)).losses(kept)
        wanted = pruned_losses(block, kept, layers.batches)
        direct = block.collect(SubsetErrors(dropped, table_bytes=0)).losses(kept)
    assert taken.tolist() == pytest.approx(wanted, rel=1e-5)
    assert taken.tolist() == pytest.approx(direct.tolist(), rel=1e-9)


def test_errors_are_the_enumerations(family: str, tiny: Tiny, calibration: Calibrate) -> None:
    block = list(calibration().walk(tiny(family)))[-1]
    with torch.no_grad():
        losses = block.collect(SubsetLosses(2))
        kept = torch.ones(15, 6, dtype=torch.bool).scatter_(1, losses.subsets, False)
        errors = block.collect(SubsetErrors(3))
    # Experts' outputs are fp32, and not summed in the same order.
    assert errors.losses(kept).tolist() == pytest.approx(losses.losses.tolist(), rel=1e-7)


def test_fewer_tokens(tiny: Tiny, calibration: Calibrate) -> None:
    """Evenly spaced, scaled by the square root of what was left out."""
    block = next(iter(calibration().walk(tiny("qwen2_moe"))))
    kept = subsets(6, 4)
    with torch.no_grad():
        every = block.collect(SubsetErrors(2, tokens=48)).losses(kept)
        assert torch.equal(every, block.collect(SubsetErrors(2)).losses(kept))
        layers = block.collect(Layers()).batches
        taken = block.collect(SubsetErrors(2, tokens=12)).losses(kept)
        some = [(x[:: len(x) // 12], y[:: len(y) // 12]) for x, y in layers]
        scales = [(len(x) / 12) ** 0.5 for x, _ in layers]
        parts = [pruned_losses(block, kept, [one]) for one in some]
    assert [len(x) for x, _ in layers] == [48, 24]
    wanted = [
        sum(s * p for s, p in zip(scales, row, strict=True)) for row in zip(*parts, strict=True)
    ]
    assert taken.tolist() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("meta", [False, True])
def test_no_tokens(meta: bool, family: str, tiny: Tiny, calibration: Calibrate) -> None:
    blocks = [one for one in calibration(sequences=0).walk(tiny(family, meta=meta)) if one.experts]
    for block in blocks:
        losses = block.collect(SubsetErrors(3)).losses(subsets(6, 3, 4))
        assert torch.equal(losses, torch.zeros(35, dtype=torch.float64))


def test_equal_logits(tiny: Tiny, calibration: Calibrate) -> None:
    """Among experts of one logit the model's own choice stands."""
    model = tiny("mixtral")
    with torch.no_grad():
        for block in calibration().walk(model):
            block.layer.mlp.gate.weight.data.zero_()
            errors = block.collect(SubsetErrors(1)).losses(subsets(6, 6, 5))
            assert float(errors[0]) < 1e-5
            assert int((errors < 1e-5).sum()) == 1 + 4  # only the two chosen ones matter


def test_misuse(tiny: Tiny, calibration: Calibrate) -> None:
    block = next(iter(calibration().walk(tiny("mixtral"))))
    with torch.no_grad():
        errors = block.collect(SubsetErrors(2))
    with pytest.raises(ValueError, match=r"expected \[candidates, 6\]"):
        errors.losses(torch.ones(1, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="prepared for 2"):
        errors.losses(subsets(6, 3))


@pytest.mark.parametrize("statistic", [SubsetErrors, SubsetLosses])
def test_other_routing_is_refused(
    statistic: type[Statistic], tiny: Tiny, calibration: Calibrate
) -> None:
    merge = MergeExperts(
        block=0, groups=((0, 1), (2,), (3,), (4,), (5,)), weights=((1, 1), (1,), (1,), (1,), (1,))
    )
    for edit in (
        merge,
        SkipExperts(block=0, beta=0.5),
        KeepExperts(block=0, experts=(0, 1, 2, 3), router="preserve"),
    ):
        model = tiny("mixtral")
        model.apply(edit)
        with pytest.raises(Refused, match="before merging, masking or skipping"):
            next(iter(calibration().walk(model))).collect(statistic(1))  # type: ignore[call-arg]


def test_sizes_share_a_pass(
    tiny: Tiny, calibration: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one size left in the cache, the other finds: nothing is taken again."""

    def kept(*cells: tuple[int, tuple[int, ...]], cache: bool) -> list[list[tuple[int, ...]]]:
        collected = []
        for keep, sizes in cells:
            model = tiny("qwen2_moe")
            method = build("eep", {"keep": keep, "sizes": sizes})
            compress(model, [BoundStep(method, calibration(cache=cache))])
            collected.append([block.experts for block in model.blocks])
        return collected

    alone = kept((4, ()), (3, ()), cache=False)
    assert len(alone[0][0]) == 4
    assert len(alone[1][0]) == 3
    first = kept((4, (3, 4)), cache=True)
    update = SubsetLosses.update
    monkeypatch.setattr(SubsetLosses, "update", lambda *_: pytest.fail("a pass was taken again"))
    assert [*first, *kept((3, (4,)), (4, (3,)), (3, (6, 4, 3, 2)), cache=True)[:1]] == alone
    monkeypatch.setattr(SubsetLosses, "update", update)


def test_choices_are_numbered_as_masks_lead_to_them() -> None:
    for ranks, least, most in [(5, 2, 2), (6, 0, 3), (4, 1, 4), (3, 3, 3)]:
        sets = [tuple(torch.where(row)[0].tolist()) for row in choices.members(ranks, least, most)]
        assert len(sets) == choices.count(ranks, least, most) == len(set(sets))
        table = choices.of_masks(ranks, least, most).tolist()
        for mask in range(2**ranks):
            bits = [rank for rank in range(ranks) if mask >> rank & 1]
            if len(bits) >= least:
                assert sets[table[mask]] == tuple(bits[:most])
