"""Fine-tuning: what is trained, what stays, and that what comes back is what was trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from harness.errors import Refused
from harness.method.recipe import BoundStep, StepReport, compress
from harness.method.registry import build
from harness.method.training.adapters import Adapters
from harness.method.training.checkout import changes
from harness.method.training.lessons import Lessons
from harness.model.edits import (
    DropBlock,
    DropMoE,
    KeepExperts,
    LowRank,
    MergeExperts,
    SetWeights,
    SkipExperts,
)
from harness.model.files.tensors import state
from harness.model.view import MoEModel
from methods.finetune import Finetune

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]
IDS = torch.arange(20).reshape(2, 10)
FAST: dict[str, Any] = {"steps": 6, "batch_size": 6, "learning_rate": 0.02, "rank": 4}
EVERY = ("experts", "shared", "dense", "attention", "router")


def logits(lm: Any) -> Tensor:
    with torch.no_grad():
        return lm(IDS).logits  # type: ignore[no-any-return]


def uneven(model: MoEModel) -> MoEModel:
    """One layer with one expert, one with three, one MoE layer and one block gone."""
    model.apply(KeepExperts(block=1, experts=(0, 2, 5)))
    model.apply(KeepExperts(block=2, experts=(4,)))
    model.apply(DropMoE(block=3))
    model.apply(DropBlock(block=0))
    return model


def tune(model: MoEModel, calibration: Calibration, **options: Any) -> StepReport:
    [report] = compress(model, [BoundStep(build("finetune", FAST | options), calibration)])
    return report


def loss(model: MoEModel, calibration: Calibration) -> float:
    lessons = Lessons(calibration.tokens)
    with torch.no_grad():
        return float(lessons.loss(model.lm, lessons.rows)) / lessons.count(lessons.rows)


def adapted(model: MoEModel, **options: Any) -> Adapters:
    chosen = {block.index: [m.name for m in block.matrices(*EVERY)] for block in model.blocks}  # type: ignore[arg-type]
    with torch.enable_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        return Adapters(model, chosen, rank=3, alpha=6.0, **options)


def low_rank(model: MoEModel) -> MoEModel:
    """Factors in every part of two blocks, of other ranks in some experts; some matrices whole."""
    for block in model.blocks[1:3]:
        factors = {}
        for matrix in block.matrices("experts", "shared", "dense", "attention"):
            if matrix.expert == 1 or matrix.name == "attention.o":
                continue
            weight = block.weight(matrix)
            rank = 3 if matrix.expert == 2 else min(weight.shape) - 2
            u = torch.zeros(len(weight), rank, device=weight.device)
            v = torch.zeros(rank, weight.shape[1], device=weight.device)
            if not weight.is_meta:
                left, values, right = torch.linalg.svd(weight, full_matrices=False)
                u, v = left[:, :rank] * values[:rank], right[:rank]
            factors[matrix.name] = (u, v)
        model.apply(LowRank.of(block.index, factors))
    return model


def merged(model: MoEModel) -> MoEModel:
    """Merged experts, some of them skipped, removed ones behind a preserved and a masked router."""
    model.apply(
        MergeExperts(block=1, groups=((0, 3), (1, 2, 5), (4,)), weights=((1, 1), (1, 2, 1), (1,)))
    )
    model.apply(SkipExperts(block=1, beta=0.3))
    model.apply(KeepExperts(block=2, experts=(0, 1, 4, 5), router="preserve"))
    model.apply(KeepExperts(block=3, experts=(0, 1, 4, 5), router="mask"))
    return model


SHAPES: dict[str, Callable[[MoEModel], MoEModel]] = {
    "whole": lambda model: model,
    "uneven": uneven,
    "low-rank": low_rank,
    "merged": merged,
}


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest, family: str, tiny: Tiny) -> MoEModel:
    return SHAPES[request.param](tiny(family))


def test_learns_and_leaves_the_base_alone(model: MoEModel, calibration: Calibrate) -> None:
    tokens = calibration(padded=True)
    base = {name: tensor.clone() for name, tensor in state(model).items()}
    snapshot = model.snapshot()
    before = loss(model, tokens)
    report = tune(model, tokens)
    assert loss(model, tokens) < before - 0.1
    for index, (version, _) in snapshot.items():
        for name, tensor in version.load().state_dict().items():
            assert torch.equal(tensor, base[f"model.layers.{index}.{name}"])
        assert not any(parameter.requires_grad for parameter in version.load().parameters())
    assert [note.name for note in report.notes] == ["finetune.losses"]
    assert len(report.notes[0].data) == 6
    # Before the first step the adapters add nothing.
    assert report.notes[0].data[0] == pytest.approx(before, rel=1e-5)
    assert not any(parameter.requires_grad for parameter in model.lm.parameters())


def test_gradients_reach_the_adapters_of_every_target_only(model: MoEModel) -> None:
    adapters = adapted(model)
    for parameter in adapters.trained():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    lessons = Lessons(Tokens(IDS, None, "x", 0, "x"))
    with torch.enable_grad():
        lessons.loss(adapters.lm, lessons.rows).backward()  # type: ignore[no-untyped-call]
    for name, parameter in adapters.lm.named_parameters():
        assert ("lora_" in name) == parameter.requires_grad == (parameter.grad is not None)
        if parameter.grad is not None and "gate.lora" not in name:
            assert parameter.grad.any(), name
    placed = sum(len(edit.matrices) for edit in changes(model, adapters.merged()))
    assert placed == sum(len(block.matrices()) for block in model.blocks)


def test_merged_is_what_was_trained(model: MoEModel) -> None:
    adapters = adapted(model)
    before = logits(model.lm)
    assert torch.allclose(logits(adapters.lm), before, atol=1e-5)
    for number, parameter in enumerate(adapters.trained()):
        generator = torch.Generator().manual_seed(number)
        torch.nn.init.normal_(parameter, std=0.03, generator=generator)
    trained = logits(adapters.lm)
    assert not torch.allclose(trained, before, atol=1e-1)
    assert torch.allclose(logits(adapters.merged()), trained, atol=1e-5)
    for edit in changes(model, adapters.merged()):
        model.apply(edit)
    assert torch.allclose(logits(model.lm), trained, atol=1e-5)


def test_same_seed_same_weights(tiny: Tiny, calibration: Calibrate) -> None:
    def run(**options: Any) -> Tensor:
        model = tiny("qwen2_moe")
        torch.manual_seed(len(options))
        state = torch.random.get_rng_state()
        tune(model, calibration(), steps=2, batch_size=2, dropout=0.3, **options)
        assert torch.equal(torch.random.get_rng_state(), state)
        return logits(model.lm)

    assert torch.equal(run(), run(seed=0))
    assert not torch.equal(run(), run(seed=1))


def test_dropout_reaches_linear_layers(tiny: Tiny) -> None:
    adapters = adapted(tiny("deepseek_v2"), dropout=0.5)
    torch.nn.init.ones_(adapters.trained()[1])
    assert not torch.equal(logits(adapters.lm), logits(adapters.lm))


@pytest.mark.parametrize("targets", [["experts"], ["attention"], ["shared", "dense"], ["router"]])
def test_targets(targets: list[str], tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("deepseek_v2")
    tune(model, calibration(), targets=targets, steps=1)
    for edit in model.edits:
        assert isinstance(edit, SetWeights)
        assert {name.partition(".")[0] for name in edit.matrices} <= set(targets)
    blocks = {"experts": [1, 2, 3], "router": [1, 2, 3]}.get(targets[0], [0, 1, 2, 3])
    assert [edit.block for edit in model.edits] == blocks


@pytest.mark.parametrize("shape", SHAPES)
def test_a_dry_run_yields_the_same_edits(
    shape: str, family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    dry, real = SHAPES[shape](tiny(family, meta=True)), SHAPES[shape](tiny(family))
    tune(dry, calibration(sequences=0))
    tune(real, calibration(), steps=1)
    assert dry.edits == real.edits


def test_only_answers_are_trained_on(tiny: Tiny) -> None:
    model = tiny("mixtral")
    answers = torch.zeros_like(IDS, dtype=torch.bool)
    answers[0, 4:6] = True
    answers[:, 0] = True  # nothing predicts a first token
    lessons = Lessons(Tokens(IDS, None, "x", 0, "x", answers))
    assert lessons.rows.tolist() == [0]
    assert lessons.count(lessons.rows) == 2
    scores = model.lm(IDS).logits[0].float().log_softmax(-1)
    expected = -(scores[3, IDS[0, 4]] + scores[4, IDS[0, 5]])
    assert float(lessons.loss(model.lm, lessons.rows)) == pytest.approx(float(expected), rel=1e-5)


def test_padding_changes_nothing(family: str, tiny: Tiny) -> None:
    model = tiny(family)
    short, long = IDS[:1, :6], torch.cat([IDS[:1, :6], torch.full((1, 4), 7)], dim=1)
    both = torch.cat([long, IDS[1:]])
    valid = torch.ones_like(both, dtype=torch.bool)
    valid[0, 6:] = False
    apart = [Lessons(Tokens(ids, None, "x", 0, "x")) for ids in (short, IDS[1:])]
    together = Lessons(Tokens(both, valid, "x", 0, "x"))
    with torch.no_grad():
        sums = [float(one.loss(model.lm, one.rows)) for one in apart]
        assert float(together.loss(model.lm, together.rows)) == pytest.approx(sum(sums), rel=1e-5)
    assert together.count(together.rows) == 5 + 9


def test_every_row_once_an_epoch() -> None:
    lessons = Lessons(Tokens(torch.zeros(7, 3, dtype=torch.int64), None, "x", 0, "x"))

    def drawn(seed: int) -> list[list[int]]:
        batches: Iterator[Tensor] = lessons.draw(3, torch.Generator().manual_seed(seed))
        return [next(batches).tolist() for _ in range(6)]

    first = drawn(0)
    assert [len(batch) for batch in first] == [3, 3, 1] * 2
    for epoch in (first[:3], first[3:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(7))
    assert first[:3] != first[3:]
    assert first == drawn(0) != drawn(1)


@pytest.mark.parametrize("micro", [1, 2, 6])
def test_accumulation_changes_nothing(micro: int, tiny: Tiny, calibration: Calibrate) -> None:
    def run(size: int) -> Tensor:
        model = tiny("mixtral")
        tokens = Calibration(calibration(padded=True).tokens, batch_size=size)
        tune(model, tokens, steps=2)
        return logits(model.lm)

    assert torch.allclose(run(micro), run(6), atol=1e-3)


def test_steps_and_rates() -> None:
    assert Finetune(epochs=2, batch_size=4)._total(9) == 6
    assert Finetune(epochs=0.1, batch_size=4)._total(9) == 1
    assert Finetune(steps=11)._total(9) == 11
    rates = {
        schedule: [Finetune(schedule=schedule, warmup=0.2)._rate(n, 10) for n in range(10)]
        for schedule in ("cosine", "linear", "constant")
    }
    for rate in rates.values():
        assert rate[:3] == [0.5, 1.0, 1.0]
    assert rates["constant"][2:] == [1.0] * 8
    assert rates["linear"][6] == pytest.approx(0.5)
    assert rates["cosine"][4] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_a_loss_that_is_not_finite_ends_it(tiny: Tiny, calibration: Calibrate) -> None:
    good, bad = tiny("mixtral"), tiny("mixtral")
    tune(good, calibration(), steps=3, schedule="constant", learning_rate=0.01)
    with pytest.warns(UserWarning, match=r"finetune: not finite at step \d; kept the state before"):
        report = tune(bad, calibration(), steps=8, learning_rate=1e30, clip=None)
    losses, stopped = report.notes
    assert stopped.name == "finetune.stopped"
    assert stopped.data == {"step": len(losses.data) + 1}
    assert all(math.isfinite(one) for one in losses.data)
    assert len(losses.data) < 8
    assert torch.isfinite(logits(bad.lm)).all()
    assert good.edits == bad.edits


def test_the_state_kept_is_the_last_whose_loss_was_finite(
    tiny: Tiny, calibration: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two good steps, then a loss that is not a number: the weights of the third loss are bad."""
    whole, broken = tiny("mixtral"), tiny("mixtral")
    # The second update is made after the second loss, so two losses vouch for one update.
    tune(whole, calibration(), steps=1, schedule="constant", warmup=0)
    real, seen = Finetune._gradients, 0

    def gradients(self: Finetune, *args: Any) -> float:
        nonlocal seen
        seen += 1
        loss = real(self, *args)
        return loss if seen < 3 else math.nan

    monkeypatch.setattr(Finetune, "_gradients", gradients)
    with pytest.warns(UserWarning, match="not finite at step 3"):
        tune(broken, calibration(), steps=6, schedule="constant", warmup=0)
    assert torch.equal(logits(whole.lm), logits(broken.lm))


def test_half_precision(tiny: Tiny, calibration: Calibrate) -> None:
    lm: Any = tiny("mixtral").lm
    half = MoEModel(lm.to(torch.bfloat16), ref="half", sha256="half")
    before = loss(half, calibration())
    adapters = adapted(half)
    assert {parameter.dtype for parameter in adapters.trained()} == {torch.float32}
    tune(half, calibration())
    assert loss(half, calibration()) < before - 0.05
    assert {parameter.dtype for parameter in half.lm.parameters()} == {torch.bfloat16}


def test_refusals(tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("mixtral")
    with pytest.raises(Refused, match="mixtral has no dense or shared left to train"):
        tune(model, calibration(), targets=["shared", "dense"])
    none = Tokens(IDS, None, "mine", 0, "x", torch.zeros_like(IDS, dtype=torch.bool))
    with pytest.raises(Refused, match="calibration 'mine' has no token to train on"):
        tune(model, Calibration(none))
    assert model.edits == ()
    assert torch.is_grad_enabled()
