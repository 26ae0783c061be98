"""Plain checkpoints: what transformers reads is the model that was exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness.errors import Refused
from harness.export.configuration import configuration
from harness.export.plain import write_plain
from harness.export.writing import export
from harness.model.edits import DropBlock, KeepExperts, MergeExperts, SetWeights
from harness.model.files.opening import open_model
from harness.model.view import MoEModel
from tests.models import from_config, tiny_config

ROUTED = ("deepseek", "deepseek_v2", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe")
DENSE = ("llama", "mistral", "qwen2")
Tiny = Callable[..., MoEModel]


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 53, (2, 12), generator=torch.Generator().manual_seed(5))


def stored(folder: Path) -> set[str]:
    """Names of all tensors in a checkpoint."""
    collected: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            collected |= set(tensors.keys())
    return collected


def reread(folder: Path) -> tuple[PreTrainedModel, dict[str, Any]]:
    """By transformers alone."""
    auto: Any = AutoModelForCausalLM
    lm, report = auto.from_pretrained(folder, output_loading_info=True)
    return lm, {name: keys for name, keys in report.items() if keys}


def same_logits(model: MoEModel, folder: Path, ids: Tensor) -> None:
    """To the bit, with nothing missing and nothing left over."""
    lm, problems = reread(folder)
    assert not problems
    with torch.no_grad():
        assert torch.equal(lm(ids).logits, model.lm(ids).logits)


@pytest.mark.parametrize("family", [*ROUTED, *DENSE])
def test_names_are_those_of_published_checkpoints(
    family: str, random_lm: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    lm = random_lm(family)
    lm.save_pretrained(tmp_path / "theirs")
    write_plain(MoEModel(lm, ref=family, sha256=family), tmp_path / "ours")
    assert stored(tmp_path / "ours") == stored(tmp_path / "theirs")


@pytest.mark.parametrize("family", ROUTED)
def test_pruned_dropped_and_masked(family: str, tiny: Tiny, tmp_path: Path, ids: Tensor) -> None:
    model = tiny(family)
    for place, block in enumerate(model.moe_blocks()):
        kept = ((4, 0, 2, 5), (1, 2, 3, 4))[place % 2]
        model.apply(KeepExperts(block=block.index, experts=kept))
    model.apply(DropBlock(block=1))
    block = model.blocks[-1]
    weight = block.weight(f"experts.{block.experts[0]}.up")
    masked = weight * (weight.abs() > weight.abs().median())
    model.apply(SetWeights.of(block.index, {f"experts.{block.experts[0]}.up": masked}))
    proof = export(model, tmp_path / "out", "hf")
    assert proof.reader.startswith("transformers 5.")
    assert proof.experts == 3 * 4 * len(model.moe_blocks())
    same_logits(model, tmp_path / "out", ids)
    text = json.loads((tmp_path / "out" / "config.json").read_text())
    assert text["num_hidden_layers"] == 3
    assert 4 in (
        text.get(name) for name in ("num_experts", "num_local_experts", "n_routed_experts")
    )


@pytest.mark.parametrize("block", [0, 3])
@pytest.mark.parametrize("family", ["deepseek_v2", "qwen2", "qwen2_moe", "qwen3_moe"])
def test_any_block_may_go(family: str, block: int, tiny: Tiny, tmp_path: Path, ids: Tensor) -> None:
    """Which blocks are dense, and which slide, is said anew."""
    model = tiny(family)
    model.apply(DropBlock(block=block))
    export(model, tmp_path / "out", "hf")
    same_logits(model, tmp_path / "out", ids)


def test_fewer_experts_than_are_chosen(tiny: Tiny, tmp_path: Path, ids: Tensor) -> None:
    model = tiny("qwen2_moe")
    for block in model.moe_blocks():
        model.apply(KeepExperts(block=block.index, experts=(3, 1)))
    export(model, tmp_path / "out", "hf")
    lm, _ = reread(tmp_path / "out")
    assert lm.config.num_experts_per_tok == 2
    same_logits(model, tmp_path / "out", ids)


def test_what_became_plain_again(tiny: Tiny, tmp_path: Path, ids: Tensor) -> None:
    """Experts that ran in banks, rows in another order than the experts."""
    model = tiny("mixtral")
    for block in model.moe_blocks():
        alone = tuple((expert,) for expert in range(6))
        model.apply(MergeExperts(block=block.index, groups=alone, weights=((1.0,),) * 6))
        model.apply(KeepExperts(block=block.index, experts=(5, 0, 3, 2), router="preserve"))
        model.apply(KeepExperts(block=block.index, experts=(5, 0, 3, 2)))
    export(model, tmp_path / "out", "hf")
    lm, problems = reread(tmp_path / "out")
    assert not problems
    with torch.no_grad():
        torch.testing.assert_close(lm(ids).logits, model.lm(ids).logits, atol=1e-5, rtol=0)


def test_blocks_that_are_dense_in_turns(tiny: Tiny) -> None:
    """DeepSeek says it with two numbers; not every pattern has such."""
    model = tiny("deepseek")
    model.apply(DropBlock(block=0))
    assert configuration(model).first_k_dense_replace == 0
    turns = tiny("deepseek")
    turns.config.moe_layer_freq = 2
    turns.apply(DropBlock(block=3))
    written = configuration(turns)  # one dense block, then MoE layers only
    assert [written.has_experts(block) for block in range(3)] == [False, True, True]


def test_a_pattern_without_words_is_refused(tmp_path: Path) -> None:
    config = tiny_config("deepseek", moe_layer_freq=2, first_k_dense_replace=0)
    model = MoEModel(from_config(config), ref="turns", sha256="turns")
    assert [bool(block.experts) for block in model.blocks] == [True, False, True, False]
    model.apply(DropBlock(block=0))
    with pytest.raises(Refused, match=r"drop_block leaves dense MLPs at the places \[0, 2\] of 3"):
        export(model, tmp_path / "out", "hf")
    assert not (tmp_path / "out").exists()


def test_streamed_and_in_shards(tiny: Tiny, tmp_path: Path, ids: Tensor) -> None:
    write_plain(tiny("qwen2_moe"), tmp_path / "base")
    streamed = open_model(str(tmp_path / "base"), streaming=True)
    whole = open_model(str(tmp_path / "base"))
    for model in (streamed, whole):
        for block in model.moe_blocks():
            model.apply(KeepExperts(block=block.index, experts=(0, 5, 4)))
    proof = export(streamed, tmp_path / "out", "hf")
    assert proof.reader == "moebench's loader"
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 1 + len(streamed.numbers)
    same_logits(whole, tmp_path / "out", ids)
