"""Families without experts: what methods on blocks and matrices compare Mixture-of-Experts with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness import reference
from harness.calibration.statistics.inputs import InputNorms
from harness.calibration.walk import Calibration
from harness.data import DataRoot
from harness.errors import Refused
from harness.evaluate.perplexity import perplexity
from harness.evaluate.tasks import evaluate_tasks
from harness.measure.flops import measure_flops
from harness.measure.size import measure_size
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.edits import DropBlock, DropMoE, KeepExperts, SetWeights
from harness.model.files.artifact import load, save
from harness.model.files.audit import audit
from harness.model.files.identity import describe
from harness.model.files.opening import open_meta, open_model
from harness.model.view import Block, MoEModel
from tests.model.decoding import check_cached, logits
from tests.models import from_config, tiny_config

FAMILIES = ("llama", "mistral", "qwen2")
NAMES = [f"dense.{role}" for role in ("gate", "up", "down")]
NAMES += [f"attention.{role}" for role in "qkvo"]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(family: str, random_lm: Callable[..., PreTrainedModel], tmp_path: Path) -> Path:
    """A checkpoint whose biases, where the family has them, are not zero."""
    lm = random_lm(family)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in lm.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.3, generator=generator)
    lm.save_pretrained(tmp_path / family)
    return tmp_path / family


def test_blocks_have_matrices_and_no_experts(folder: Path, family: str) -> None:
    assert describe(str(folder)).family == family
    for model in (open_model(str(folder)), open_meta(str(folder))):
        assert model.experts == 0
        for block in model.blocks:
            assert (block.experts, block.top_k) == ((), 0)
            assert [matrix.name for matrix in block.matrices()] == NAMES
            assert block.matrices("dense")[2].shape == (16, 24)
        with pytest.raises(Refused, match="has no experts"):
            model.moe_blocks()
    assert ("bias" in " ".join(open_model(str(folder)).lm.state_dict())) == (family == "qwen2")


def test_the_walk_sees_what_feeds_each_matrix(
    folder: Path, calibration: Callable[..., Calibration]
) -> None:
    model, tokens = open_model(str(folder)), calibration(padded=True)
    with torch.no_grad():
        for block in tokens.walk(model):
            norms = block.collect(InputNorms("dense", "attention"))
            assert set(norms.squares) == set(NAMES)
            assert all(float(squares.min()) > 0 for squares in norms.squares.values())


@pytest.mark.parametrize(("drop", "mode"), [(1, "discrete"), (2, "consecutive")])
def test_block_drop_saved_and_reloaded(
    drop: int,
    mode: str,
    folder: Path,
    ids: Tensor,
    calibration: Callable[..., Calibration],
    tmp_path: Path,
) -> None:
    model = open_model(str(folder))
    whole = measure_size(model, None).parameters
    compress(model, [BoundStep(build("block-drop", {"drop": drop, "mode": mode}), calibration())])
    assert len(model.numbers) == 4 - drop
    before = logits(model, ids)
    save(model, tmp_path / "artifact")
    again = load(tmp_path / "artifact")
    assert torch.equal(logits(again, ids), before)
    facts = audit(again, tmp_path / "artifact")
    assert facts["blocks"] == 4 - drop
    left = measure_size(again, None)
    assert (left.expert_parameters, left.active_parameters) == (0, left.parameters)
    block = sum(p.numel() for p in open_meta(str(folder)).layer(0).parameters())
    assert left.parameters == whole - drop * block


def test_weights_are_set_saved_and_reloaded(folder: Path, ids: Tensor, tmp_path: Path) -> None:
    model = open_model(str(folder))
    base = logits(model, ids)
    block = Block(model, 1)
    model.apply(SetWeights.of(1, {name: block.weight(name) * 0.5 for name in NAMES}))
    before = logits(model, ids)
    assert not torch.equal(before, base)
    save(model, tmp_path / "artifact")
    assert torch.equal(logits(load(tmp_path / "artifact"), ids), before)


@pytest.mark.parametrize("dropped", [0, 1, 3])
def test_cached_generation_equals_uncached_after_block_drop(
    dropped: int, folder: Path, ids: Tensor
) -> None:
    model = open_model(str(folder))
    model.apply(DropBlock(block=dropped))
    check_cached(model, ids)


def test_without_its_mlp_a_block_is_its_attention(folder: Path, ids: Tensor) -> None:
    model, silent = open_model(str(folder)), open_model(str(folder))
    model.apply(DropMoE(block=1))
    down = Block(silent, 1).weight("dense.down")
    silent.apply(SetWeights.of(1, {"dense.down": torch.zeros_like(down)}))
    assert torch.equal(logits(model, ids), logits(silent, ids))
    assert [matrix.part for matrix in Block(model, 1).matrices()] == ["attention"] * 4


def test_what_needs_experts_is_refused(folder: Path) -> None:
    model = open_model(str(folder))
    with pytest.raises(Refused, match="has no experts"):
        model.apply(KeepExperts(block=1, experts=(0,)))
    with pytest.raises(Refused, match="no weight 'router'"):
        model.apply(SetWeights.of(1, {"router": torch.zeros(1)}))


def test_work_is_counted_as_the_formula_says(folder: Path) -> None:
    model = open_model(str(folder))
    whole = measure_flops(model, 11)
    assert whole.macs == whole.analytic_macs > 0
    model.apply(DropBlock(block=0))
    model.apply(DropMoE(block=2))
    less = measure_flops(model, 11)
    assert less.macs == less.analytic_macs
    q, k, v, o = (matrix.shape for matrix in model.blocks[0].matrices("attention"))
    attention = 11 * sum(rows * columns for rows, columns in (q, k, v, o))
    attention += 11 * 11 * (q[0] + o[1])
    assert whole.macs - less.macs == attention + 2 * 11 * 3 * 16 * 24


def test_it_is_evaluated(family: str) -> None:
    tokenizer = open_meta("reference/mixtral").tokenizer
    config = tiny_config(family, vocab_size=len(tokenizer), max_position_embeddings=256)
    if family == "mistral":
        config.sliding_window = 256  # longer than any prompt: prompts may then share a row
    model = MoEModel(from_config(config), ref=family, sha256=family)
    data = DataRoot(reference.DATA)
    ours, theirs = (
        evaluate_tasks(model.lm, tokenizer, ("boolq",), data=data, limit=3, shared=shared)[1]
        for shared in (True, False)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert one.loglikelihoods == pytest.approx(other.loglikelihoods, abs=1e-4)
    computed = perplexity(model.lm, tokenizer, "wikitext2", data=data).value
    assert computed == pytest.approx(config.vocab_size, rel=0.1)  # untrained: all words alike
