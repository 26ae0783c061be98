"""MoE-I² pruning and greedy search: counts, fields and decisions against direct computations."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.calibration.passes.importance import Importance
from harness.calibration.statistics.subset_errors import SubsetErrors
from harness.calibration.walk import Calibration, LiveBlock
from harness.errors import Refused
from harness.method.recipe import BoundStep, StepReport, compress
from harness.method.registry import build
from harness.model.edits import DropMoE, KeepExperts, MergeExperts
from harness.model.view import MoEModel
from methods.moe_i2.layer_counts import by_importance
from methods.moe_i2.reception_field import combination, combined_losses, fields
from tests.models import draw_weights, from_config, tiny_config

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]


def run(model: MoEModel, calibration: Calibration, name: str, **options: Any) -> StepReport:
    [report] = compress(model, [BoundStep(build(name, options), calibration)])
    return report


def notes(report: StepReport, name: str) -> list[Any]:
    return [note.data for note in report.notes if note.name == name]


def leaving(model: MoEModel, calibration: Calibration, index: int) -> list[Tensor]:
    """What leaves base block `index` in transformers' own forward, valid tokens of each batch."""
    outputs: list[Tensor] = []
    layer = model.lm.model.layers[model.numbers.index(index)]
    handle = layer.register_forward_hook(lambda _m, _a, out: outputs.append(out))
    for batch in calibration.batches():
        mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
        with torch.no_grad():
            model.lm(input_ids=batch["input_ids"], attention_mask=mask)
        outputs[-1] = outputs[-1][mask]
    handle.remove()
    return outputs


def distance(ones: list[Tensor], others: list[Tensor]) -> float:
    pairs = zip(ones, others, strict=True)
    return sum(float((one.double() - other.double()).norm()) for one, other in pairs)


def importance(**losses: list[float]) -> Importance:
    by_expert = {int(block[1:]): dict(enumerate(layer)) for block, layer in losses.items()}
    return Importance(1.0, by_expert)


def test_counts_follow_importance() -> None:
    measured = importance(b0=[2.0] * 8, b1=[3.0] * 8, b3=[2.5] * 8)
    drops = dict.fromkeys((0, 1, 3), 3)
    wide = dict.fromkeys(drops, 7)
    assert by_importance(measured, drops, wide) == {0: 4, 1: 2, 3: 3}  # 2 : 1 : 1.5 of 9
    shifted = importance(b0=[20.0] * 8, b1=[50.0] * 8, b3=[35.0] * 8)
    assert by_importance(shifted, drops, wide) == {0: 4, 1: 2, 3: 3}
    assert by_importance(measured, drops, {**wide, 0: 3}) == {0: 3, 1: 2, 3: 4}  # the rest moves on
    assert by_importance(importance(b0=[1.0] * 8, b1=[1.0] * 8), {0: 2, 1: 2}, wide) == {0: 2, 1: 2}


def test_counts_add_up_and_keep_to_their_limits() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    for _ in range(300):
        sizes = {block: draw(2, 20) for block in range(draw(1, 7))}
        most = {block: draw(0, size) for block, size in sizes.items()}
        drops = {block: draw(0, limit + 1) for block, limit in most.items()}
        losses = {
            block: dict(enumerate(torch.rand(size, generator=generator).tolist()))
            for block, size in sizes.items()
        }
        counts = by_importance(Importance(0.0, losses), drops, most)
        assert sum(counts.values()) == sum(drops.values())
        assert all(0 <= counts[block] <= most[block] for block in drops)


def test_importance_decides_the_counts(family: str, tiny: Tiny, calibration: Calibrate) -> None:
    model, tokens = tiny(family), calibration()
    report = run(model, tokens, "moe-i2-prune", keep=4, layers="importance", iterations=2)
    [losses] = notes(report, "moe-i2.importance")
    [kept] = notes(report, "moe-i2-prune.counts")
    base = tiny(family)
    mean = {index: sum(losses[str(index)].values()) for index in kept}
    assert sum(kept.values()) == 4 * len(kept)
    assert len(set(kept.values())) > 1
    order = sorted(kept, key=mean.__getitem__)
    assert [kept[index] for index in order] == sorted(kept.values())  # more important, more kept
    for block in base.moe_blocks():
        assert len(model.blocks[block.index].experts) == kept[block.index] >= block.top_k


def test_fields_end_at_moe_layers(tiny: Tiny) -> None:
    assert fields(tiny("mixtral"), 3) == [3, 1]
    assert fields(tiny("mixtral"), 1) == [1, 1, 1, 1]
    assert fields(tiny("deepseek_v2"), 3) == [4]  # the first block is dense
    assert fields(tiny("deepseek_v2"), 2) == [3, 1]
    model = tiny("mixtral")
    model.apply(DropMoE(block=3))
    assert fields(model, 3) == [4]
    model.apply(DropMoE(block=1))
    assert fields(model, 1) == [1, 3]
    assert fields(model, 2) == [4]


@pytest.mark.parametrize("progressive", [False, True])
def test_losses_of_all_combinations(
    family: str,
    progressive: bool,
    tiny: Tiny,
    calibration: Calibrate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each against a forward of a model that has it, with as few block runs as a tree takes."""
    model, tokens = tiny(family), calibration(padded=True)
    runs = 0

    def counted(*args: Any) -> Any:
        nonlocal runs
        runs += 1
        return original(*args)

    original = LiveBlock.run
    monkeypatch.setattr(LiveBlock, "run", counted)
    kept = itertools.cycle(itertools.combinations(range(6), 4))
    edits: list[KeepExperts] = []
    with torch.no_grad():
        follow: Any = "both" if progressive else "original"
        for window in tokens.windows(model, fields(model, 2), follow=follow):
            blocks = [block.index for block in window if block.experts]
            choices = {
                index: [KeepExperts(block=index, experts=next(kept)) for _ in range(2 + place)]
                for place, index in enumerate(blocks)
            }
            runs = 0
            losses = combined_losses(window, choices)
            first, *more = [len(candidates) for candidates in choices.values()]
            dense = len(window) - len(blocks)  # before the first, so run once
            assert runs == dense + first + sum(first * size for size in more)
            everything = list(itertools.product(*choices.values()))
            last = window[-1].index
            target = leaving(tiny(family), tokens, last)
            for number, (loss, together) in enumerate(zip(losses, everything, strict=True)):
                assert combination(window, choices, number) == list(together)
                pruned = tiny(family)
                for edit in (*edits, *together) if progressive else together:
                    pruned.apply(edit)
                wanted = distance(leaving(pruned, tokens, last), target)
                assert loss == pytest.approx(wanted, rel=1e-5)
            best = min(range(len(losses)), key=losses.__getitem__)
            for edit in everything[best]:
                edits.append(edit)
                model.apply(edit)


def test_the_best_combination_is_pruned(family: str, tiny: Tiny, calibration: Calibrate) -> None:
    model, tokens = tiny(family), calibration()
    report = run(model, tokens, "moe-i2-prune", keep=4, iterations=3)
    choosing = notes(report, "moe-i2-prune.field")
    assert [len(one["losses"]) for one in choosing] == (
        [27] if family == "deepseek_v2" else [27, 3]
    )
    for one in choosing:
        assert one["losses"][one["chosen"]] == min(one["losses"])
        pruned = tiny(family)
        for edit in model.edits:
            if edit.block in one["blocks"]:
                pruned.apply(edit)
        last = one["blocks"][-1]
        states = [leaving(either, tokens, last) for either in (pruned, tiny(family))]
        assert min(one["losses"]) == pytest.approx(distance(*states), rel=1e-5)


def test_without_a_field_it_finds_what_enumeration_finds(
    family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    """There are 15 subsets: the search sees them all."""
    model, enumerated = tiny(family), tiny(family)
    report = run(model, calibration(), "moe-i2-prune", keep=4, best=1, field=1)
    run(enumerated, calibration(), "eep", keep=4)
    assert model.edits == enumerated.edits
    assert not notes(report, "moe-i2-prune.field")
    for search in notes(report, "moe-i2-prune.search"):
        assert len(search["best"]) == len(search["mean"]) == 51
        assert search["best"] == sorted(search["best"], reverse=True)


@pytest.fixture
def wide() -> MoEModel:
    """Sixteen experts per layer."""
    lm = from_config(tiny_config("olmoe", num_experts=16, num_hidden_layers=2), dtype=torch.float32)
    draw_weights(lm, 0)
    return MoEModel(lm, ref="wide", sha256="wide")


def test_searches_beat_random_subsets(wide: MoEModel, calibration: Calibrate) -> None:
    tokens = calibration()
    generator = torch.Generator().manual_seed(3)
    random = torch.rand(100, 16, generator=generator).argsort(1) < 10  # bool [subsets, experts]
    with torch.no_grad():
        errors = {b.index: b.collect(SubsetErrors(6)) for b in tokens.walk(wide)}
    losses: dict[str, dict[int, float]] = {}
    for name, options in (("moe-i2-prune", {"best": 1, "field": 1}), ("greedy", {})):
        losses[name] = {}
        for edit in build(name, {"keep": 10, **options}).compress(wide, tokens):
            if isinstance(edit, KeepExperts):
                kept = torch.zeros(1, 16, dtype=torch.bool)
                kept[0, list(edit.experts)] = True
                losses[name][edit.block] = float(errors[edit.block].losses(kept))
                assert losses[name][edit.block] < float(errors[edit.block].losses(random).min())
    assert losses["greedy"] == pytest.approx(losses["moe-i2-prune"], rel=0.05)


def test_greedy_is_rarely_beaten_by_enumeration(
    family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    model, plain, enumerated = tiny(family), tiny(family), tiny(family)
    swapped = notes(run(model, calibration(), "greedy", keep=3), "greedy.losses")
    unswapped = notes(run(plain, calibration(), "greedy", keep=3, swaps=False), "greedy.losses")
    best = notes(run(enumerated, calibration(), "eep", keep=3), "eep.losses")
    equal = 0
    for ours, removed, exact in zip(swapped, unswapped, best, strict=True):
        least = exact["losses"][0]
        assert removed["swaps"] == 0
        assert least * (1 - 1e-9) <= ours["loss"] <= removed["loss"]
        assert (ours["loss"] < removed["loss"]) == (ours["swaps"] > 0)
        equal += ours["loss"] == pytest.approx(least, rel=1e-9)
    assert equal >= len(best) - 1


def test_seeds(tiny: Tiny, calibration: Calibrate) -> None:
    """Few individuals, so that the draws decide."""

    def edits(seed: int) -> Any:
        model = tiny("mixtral")
        run(model, calibration(), "moe-i2-prune", keep=3, population=2, iterations=1, seed=seed)
        return model.edits

    assert edits(0) == edits(0)
    assert len({edits(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("name", ["moe-i2-prune", "greedy"])
def test_refusals(name: str, tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("mixtral")
    groups = ((0, 1), (2,), (3,), (4,), (5,))
    model.apply(MergeExperts(block=2, groups=groups, weights=((1, 1), (1,), (1,), (1,), (1,))))
    with pytest.raises(Refused, match=r"block 2 has merged"):
        run(model, calibration(), name, keep=3)
    uneven = tiny("mixtral")
    uneven.apply(KeepExperts(block=1, experts=(0, 1)))
    with pytest.raises(Refused, match="block 1 has only 2 experts"):
        run(uneven, calibration(), name, keep=3)
    router = {"topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1}
    lm = from_config(tiny_config("deepseek_v2", **router))
    grouped = MoEModel(lm, ref="grouped", sha256="grouped")
    with pytest.raises(Refused, match=r"keep = 4: block 1 .* set keep = 6"):
        run(grouped, calibration(), name, keep=4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("moe-i2-prune", {"ratio": 0.3, "layers": "importance", "progressive": True}),
        ("moe-i2-prune", {"keep": 3, "field": 2, "best": 2, "tokens": 5}),
        ("greedy", {"ratio": 0.5}),
    ],
)
def test_dry_run(
    name: str, options: dict[str, Any], family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    dry, real = tiny(family, meta=True), tiny(family)
    run(dry, calibration(sequences=0), name, **options)
    run(real, calibration(), name, **options)
    assert [edit.block for edit in dry.edits] == [edit.block for edit in real.edits]
    left = [sum(len(block.experts) for block in model.blocks) for model in (dry, real)]
    assert left[0] == left[1]
