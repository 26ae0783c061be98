"""What the walk promises: right states, right order, nothing changed, nothing stale."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.calibration.statistics.inputs import InputNorms
from harness.calibration.statistics.routing import RouterMass, TokenCount
from harness.calibration.statistics.similarity import Similarity
from harness.calibration.walk import Calibration
from harness.errors import StaleWalk
from harness.model.edits import DropBlock, DropMoE, KeepExperts
from harness.model.view import MoEModel

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]


def hidden_states(model: MoEModel, calibration: Calibration) -> list[list[Tensor]]:
    """Per batch, what transformers itself says enters each block."""
    lm, states = model.lm, []
    for inputs in calibration.batches():
        arguments = {k: v for k, v in inputs.items() if k != "labels"}
        with torch.no_grad():
            states.append(list(lm(**arguments, output_hidden_states=True).hidden_states[:-1]))
    return states


@pytest.mark.parametrize("padded", [False, True])
def test_states_are_the_models_own(
    family: str, padded: bool, tiny: Tiny, calibration: Calibrate
) -> None:
    model, tokens = tiny(family), calibration(padded=padded)
    wanted = hidden_states(model, tokens)
    valid = [batch.get("attention_mask") for batch in tokens.batches()]
    with torch.no_grad():
        for place, block in enumerate(tokens.walk(model)):
            for batch, ours in enumerate(block.inputs.batches):
                theirs = wanted[batch][place]
                mask = valid[batch]
                rows = slice(None) if mask is None else mask
                torch.testing.assert_close(ours[rows], theirs[rows], atol=1e-5, rtol=0)


def test_edited_states_have_seen_the_edits(family: str, tiny: Tiny, calibration: Calibrate) -> None:
    model, tokens = tiny(family), calibration()
    edited = tiny(family)
    edits = [KeepExperts(block=1, experts=(0, 2, 5)), DropMoE(block=2)]
    for edit in edits:
        edited.apply(edit)
    wanted = hidden_states(edited, tokens)
    with torch.no_grad():
        for block in tokens.walk(model):
            for batch, ours in enumerate(block.inputs.batches):
                torch.testing.assert_close(ours, wanted[batch][block.index], atol=1e-5, rtol=0)
            for edit in edits:
                if edit.block == block.index:
                    model.apply(edit)


def test_original_states_have_not(family: str, tiny: Tiny, calibration: Calibrate) -> None:
    model, tokens = tiny(family), calibration()
    wanted = hidden_states(tiny(family), tokens)
    with torch.no_grad():
        for block in tokens.walk(model, follow="both"):
            for batch, theirs in enumerate(wanted):
                ours = block.original.inputs.batches[batch]
                torch.testing.assert_close(ours, theirs[block.index], atol=1e-5, rtol=0)
            model.apply(DropMoE(block=block.index)) if block.experts else None
            assert bool(block.original.experts) == (family != "deepseek_v2" or block.index > 0)


def test_a_dropped_block_is_skipped(tiny: Tiny, calibration: Calibrate) -> None:
    model, tokens = tiny("mixtral"), calibration()
    shorter = tiny("mixtral")
    shorter.apply(DropBlock(block=1))
    wanted = hidden_states(shorter, tokens)
    seen = []
    with torch.no_grad():
        for block in tokens.walk(model):
            seen.append(block.index)
            if block.index == 1:
                model.apply(DropBlock(block=1))
            if block.index == 2:
                torch.testing.assert_close(block.inputs.batches[0], wanted[0][1])
    assert seen == [0, 1, 2, 3]


def test_an_edit_behind_the_walk_is_refused(tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("mixtral")
    for block in calibration().walk(model):
        if block.index == 2:
            with pytest.raises(StaleWalk):
                model.apply(DropMoE(block=0))
            break
    model.apply(DropMoE(block=0))  # no walk is live any more


def test_windows(tiny: Tiny, calibration: Calibrate) -> None:
    model, tokens = tiny("mixtral"), calibration()
    wanted = hidden_states(model, tokens)
    with torch.no_grad():
        for window in tokens.windows(model, 3):
            for block in window:
                torch.testing.assert_close(
                    block.inputs.batches[1], wanted[1][block.index], atol=1e-5, rtol=0
                )


@pytest.mark.parametrize("padded", [False, True])
def test_statistics(family: str, padded: bool, tiny: Tiny, calibration: Calibrate) -> None:
    """Against plain hooks on transformers' own forward."""
    model, tokens = tiny(family), calibration(padded=padded)
    seen: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
    lm = tiny(family).lm
    for index, layer in enumerate(lm.model.layers):
        if hasattr(layer.mlp, "gate"):
            collected = seen.setdefault(index, [])
            layer.mlp.gate.register_forward_hook(
                lambda _m, args, out, collected=collected: collected.append(
                    (args[0], out[0], out[2])
                )
            )
    valid = []
    for inputs in tokens.batches():
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        valid.append(mask.bool().flatten())
        with torch.no_grad():
            lm(input_ids=inputs["input_ids"], attention_mask=mask)
    with torch.no_grad():
        for block in tokens.walk(model):
            if block.index not in seen:
                assert not block.experts
                continue
            mass, count, norms = RouterMass(), TokenCount(), InputNorms("experts", "router")
            block.collect(mass, count, norms)
            logits = _rows(seen[block.index], 1, valid)
            chosen = _rows(seen[block.index], 2, valid)
            x = _rows(seen[block.index], 0, valid)
            torch.testing.assert_close(
                mass.mass, logits.float().softmax(-1).double().sum(0), atol=1e-5, rtol=0
            )
            assert count.count.tolist() == torch.bincount(chosen.flatten(), minlength=6).tolist()
            for expert in range(6):
                routed = x[(chosen == expert).any(-1)]
                torch.testing.assert_close(
                    norms.squares[f"experts.{expert}.gate"],
                    routed.double().square().sum(0),
                    atol=1e-4,
                    rtol=1e-4,
                )
                gate, up = (
                    F.linear(routed, block.weight(f"experts.{expert}.{r}")) for r in ("gate", "up")
                )
                torch.testing.assert_close(
                    norms.squares[f"experts.{expert}.down"],
                    (F.silu(gate) * up).double().square().sum(0),
                    atol=1e-4,
                    rtol=1e-4,
                )


def _rows(seen: list[tuple[Tensor, Tensor, Tensor]], place: int, valid: list[Tensor]) -> Tensor:
    parts = [row[place].flatten(0, -2)[mask] for row, mask in zip(seen, valid, strict=True)]
    return torch.cat(parts)


def test_losses_are_the_models_own(family: str, tiny: Tiny, calibration: Calibrate) -> None:
    model, tokens = tiny(family), calibration(padded=True)
    edit = KeepExperts(block=2, experts=(0, 1, 4))
    pruned = tiny(family)
    pruned.apply(edit)
    ours: list[float] = []
    with torch.no_grad():
        for block in tokens.walk(model):
            if block.index == 2:
                variants = [block.run(block.inputs), block.run(block.inputs, edit)]
                ours = tokens.losses(model, variants)
    wanted = []
    for one in (model, pruned):
        total, count = 0.0, 0
        for inputs in tokens.batches():
            mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
            with torch.no_grad():
                logits = one.lm(input_ids=inputs["input_ids"], attention_mask=mask).logits
            labels = inputs["labels"][:, 1:].flatten()
            total += F.cross_entropy(logits[:, :-1].flatten(0, 1), labels, reduction="sum").item()
            count += int((labels != -100).sum())
        wanted.append(total / count)
    assert ours == pytest.approx(wanted, rel=1e-5)
    assert model.edits == ()


def test_cached_statistics_cost_no_run_and_follow_provenance(
    tiny: Tiny, calibration: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collect(model: MoEModel) -> list[float]:
        with torch.no_grad():
            return [
                float(block.collect(Similarity()).residual)
                for block in calibration(cache=True).walk(model)
            ]

    first = collect(tiny("mixtral"))
    edited = tiny("mixtral")
    edited.apply(KeepExperts(block=1, experts=(0, 1, 2)))
    changed = collect(edited)
    assert changed[0] == first[0]
    assert changed[1] != first[1]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a cached statistic was taken again")

    monkeypatch.setattr("harness.calibration.walk.observe", never)
    monkeypatch.setattr("harness.calibration.states.run", never)
    assert collect(tiny("mixtral")) == first


def test_zero_tokens_on_the_meta_device(family: str, tiny: Tiny, calibration: Calibrate) -> None:
    tokens = calibration(sequences=0)
    for block in tokens.walk(tiny(family, meta=True)):
        if block.experts:
            assert float(block.collect(RouterMass()).mass.sum()) == 0.0
