"""What every registered method keeps to, on every family and on already compressed models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from harness.errors import Refused
from harness.measure.size import measure_size
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build, method, methods, names
from harness.model.edits import (
    EDITS,
    DropBlock,
    DropMoE,
    KeepExperts,
    LowRank,
    MergeExperts,
    QuantizeWeights,
    SetWeights,
    SkipExperts,
)
from harness.model.files.artifact import load, save
from harness.model.files.tensors import state
from harness.model.view import MoEModel

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "random": [{"keep": 3}, {"ratio": 0.5}],
    "frequency": [{"keep": 4}],
    "ean": [{"keep": 4}, {"keep": 3, "statistic": "mean"}],
    "reap": [{"keep": 4}],
    "eep": [{"keep": 4}, {"keep": 3, "progressive": True}],
    "eep-skip": [{}],
    "moe-i2-prune": [
        {"keep": 4, "population": 6, "iterations": 3},
        {"ratio": 0.3, "layers": "importance", "population": 6, "iterations": 3, "field": 2},
    ],
    "moe-i2-decompose": [{"ratio": 0.4}, {"rank": 4, "importance": "increase", "multiple": 2}],
    "top-loss": [{"keep": 4}],
    "greedy": [{"keep": 4}],
    "finetune": [{"steps": 2, "rank": 2, "batch_size": 4, "learning_rate": 0.01}],
    "expert-drop": [
        {"keep": 4},
        {"ratio": 0.5, "scope": "global"},
        {"keep": 4, "router": "preserve"},
        {"keep": 3, "router": "mask", "rescore": True},
    ],
    "layer-drop": [{"drop": 1}, {"drop": 2, "score": "moe", "rescore": True}],
    "block-drop": [{"drop": 1}, {"drop": 2, "mode": "consecutive"}],
    "m-smoe": [{"keep": 4}],
    "hc-smoe": [{"keep": 4}],
    "svd": [{"ratio": 0.4}],
    "svd-llm": [{"ratio": 0.4, "propagate": "edited"}],
    "wanda": [{"pattern": "2:4", "targets": ["experts", "attention"]}, {"sparsity": 0.5}],
    "sparsegpt": [{"pattern": "2:4", "propagate": "original"}, {"sparsity": 0.5}],
    "magnitude": [{"sparsity": 0.5}],
    "rtn": [{"group": 32}, {"bits": 3, "symmetric": True, "targets": ["experts", "attention"]}],
    "gptq": [{"group": 32, "min_tokens": 1}, {"bits": 8, "group": 0, "act_order": True}],
    "awq": [{"group": 32, "ratios": 5}],
}
NEEDS = ("gptqmodel", "llm-compressor")
"""Methods that need an interpreter of their own; test_peers.py has them keep to the same."""
HAS_DENSE = ("deepseek", "deepseek_v2", "qwen3_moe")
BLIND = ("random", "block-drop", "layer-drop", "magnitude", "svd", "finetune", "rtn")
"""Methods that ask for no statistic of experts, so that nobody counts the tokens they saw."""
CASES = [(name, options) for name, rows in OPTIONS.items() for options in rows]
CASE_IDS = [f"{name}-{'-'.join(map(str, options.values()))}" for name, options in CASES]
Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]


def run(model: MoEModel, calibration: Calibration, name: str, options: dict[str, Any]) -> MoEModel:
    compress(model, [BoundStep(build(name, options), calibration)])
    return model


def run_or_refuse(
    model: MoEModel, calibration: Calibration, name: str, options: dict[str, Any]
) -> str:
    try:
        run(model, calibration, name, options)
    except Refused as refusal:
        return str(refusal)
    return ""


def logits(model: MoEModel) -> Tensor:
    with torch.no_grad():
        return model.lm(torch.arange(20).reshape(2, 10)).logits  # type: ignore[no-any-return]


def test_every_method_has_a_row_here_a_reference_and_a_docstring() -> None:
    assert sorted([*OPTIONS, *NEEDS]) == names()
    for name, kind in methods().items():
        assert kind.name == name
        assert kind.reference
        assert kind.__doc__


@pytest.mark.parametrize(("name", "options"), CASES, ids=CASE_IDS)
def test_legal_deterministic_within_budget_and_reloadable(
    name: str,
    options: dict[str, Any],
    family: str,
    tiny: Tiny,
    calibration: Calibrate,
    tmp_path: Path,
) -> None:
    model = tiny(family)
    base = {key: tensor.clone() for key, tensor in state(model).items()}
    found = model.snapshot()
    run(model, calibration(), name, options)
    assert model.edits
    assert all(edit.kind in EDITS for edit in model.edits)
    for index, (version, _) in found.items():  # the base was never written
        for key, tensor in version.load().state_dict().items():
            assert torch.equal(tensor, base[f"model.layers.{index}.{key}"])
    again = run(tiny(family), calibration(), name, options)
    assert again.edits == model.edits
    assert torch.equal(logits(again), logits(model))
    untouched = tiny(family)
    assert not torch.equal(logits(model), logits(untouched))
    check_budget(name, options, model, untouched)
    dry = run(tiny(family, meta=True), calibration(sequences=0), name, options)
    check_dry_run(name, options, family, dry, real=model)
    save(model, tmp_path / "artifact")
    assert torch.equal(logits(load(tmp_path / "artifact")), logits(model))


def uneven(model: MoEModel) -> None:
    """Experts uneven, one layer down to top-k, one MoE layer and one block gone."""
    top_k = model.moe_blocks()[0].top_k
    model.apply(KeepExperts(block=1, experts=(0, 1, 3, 5)))
    model.apply(KeepExperts(block=2, experts=tuple(range(top_k))))
    model.apply(DropMoE(block=3))
    model.apply(DropBlock(block=0))


def merged(model: MoEModel) -> None:
    """Merged experts, a preserved and a masked router."""
    model.apply(
        MergeExperts(block=1, groups=((0, 4), (1,), (2, 3, 5)), weights=((1, 1), (1,), (1, 2, 3)))
    )
    model.apply(KeepExperts(block=2, experts=(1, 2, 4, 5), router="preserve"))
    model.apply(KeepExperts(block=3, experts=(0, 1, 3, 5), router="mask"))


def factored(model: MoEModel) -> None:
    """Low-rank experts of two ranks, and a layer that skips."""
    block = model.blocks[2]
    for number, rank in ((0, 4), (3, 4), (5, 2)):
        for role in ("gate", "down"):
            name = f"experts.{number}.{role}"
            u, s, v = torch.linalg.svd(block.weight(name), full_matrices=False)
            model.apply(LowRank.of(2, {name: (u[:, :rank] * s[:rank], v[:rank])}))
    model.apply(SkipExperts(block=3, beta=0.5))


@pytest.mark.parametrize(
    ("before", "family"),
    [
        (uneven, "mixtral"),
        (uneven, "qwen2_moe"),
        (uneven, "deepseek_v2"),
        (merged, "mixtral"),
        (factored, "deepseek_v2"),
    ],
)
@pytest.mark.parametrize(("name", "options"), CASES, ids=CASE_IDS)
def test_compressed_models(
    name: str,
    options: dict[str, Any],
    before: Callable[[MoEModel], None],
    family: str,
    tiny: Tiny,
    calibration: Calibrate,
    tmp_path: Path,
) -> None:
    """Works, or refuses in one sentence, on models that are compressed already; reloads."""
    model = tiny(family)
    before(model)
    refusal = run_or_refuse(model, calibration(), name, options)
    assert "\n" not in refusal
    assert torch.isfinite(logits(model)).all()
    save(model, tmp_path / "artifact")
    assert torch.equal(logits(load(tmp_path / "artifact")), logits(model))


def check_dry_run(
    name: str, options: dict[str, Any], family: str, dry: MoEModel, real: MoEModel
) -> None:
    """No tokens, no weights: what the real run leaves, to the parameter where that is decided."""
    assert {e.kind for e in dry.edits} == {e.kind for e in real.edits} or name == "expert-drop"
    assert len(dry.numbers) == len(real.numbers)
    if options.get("scope") == "global":
        return  # a layer that loses all its experts loses its router too
    if name in ("layer-drop", "block-drop") and family in HAS_DENSE:
        return  # which blocks go decides how much: one of them is dense
    sizes = [model.lm.num_parameters() for model in (dry, real)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(("name", "options"), CASES, ids=CASE_IDS)
def test_an_expert_that_saw_no_token(
    name: str, options: dict[str, Any], tiny: Tiny, calibration: Calibrate
) -> None:
    model = tiny("qwen2_moe")
    for index in model.numbers:  # push one expert out of every token's choice
        gate = model.layer(index).mlp.gate
        row = gate.weight.data
        row[4] = -row.abs().max() * torch.sign(row.sum(0))
    tokens = calibration(sequences=1)
    reports = compress(model, [BoundStep(build(name, options), tokens)])
    assert torch.isfinite(logits(model)).all()
    unseen = any(not int(count.count.min()) for count in tokens.coverage.values())
    assert unseen == any("no token of calibration" in warning for warning in reports[0].warnings)
    if name not in BLIND:
        assert unseen


# What a first step leaves behind is the edits of its kind: one method for each kind of edit.
FIRST = ("random", "m-smoe", "svd", "wanda", "rtn", "eep-skip", "layer-drop", "block-drop")


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("second", sorted(OPTIONS))
def test_recipes_of_two_steps(
    first: str, second: str, tiny: Tiny, calibration: Calibrate, tmp_path: Path
) -> None:
    model = tiny("qwen2_moe")
    steps = [(first, OPTIONS[first][0]), (second, {**OPTIONS[second][0]})]
    for name, options in steps:
        refusal = run_or_refuse(model, calibration(), name, options)
        assert "\n" not in refusal
    save(model, tmp_path / "artifact")
    assert torch.equal(logits(load(tmp_path / "artifact")), logits(model))


def check_budget(name: str, options: dict[str, Any], model: MoEModel, base: MoEModel) -> None:
    layers = len(base.moe_blocks())
    experts = sum(len(block.experts) for block in model.blocks)
    if "keep" in options:
        assert experts == options["keep"] * layers
    elif "drop" in options:
        gone = sum(isinstance(edit, DropMoE | DropBlock) for edit in model.edits)
        assert gone == options["drop"]
    elif "rank" in options:
        ranks = [r for e in model.edits if isinstance(e, LowRank) for r in e.ranks.values()]
        assert sum(ranks) == options["rank"] * len(ranks)
    elif name in ("svd", "svd-llm", "moe-i2-decompose"):
        sizes = [measure_size(one, None).expert_parameters for one in (model, base)]
        assert options["ratio"] - 0.05 < 1 - sizes[0] / sizes[1] < options["ratio"] + 0.1
    elif "ratio" in options:
        assert experts == layers * 6 - round(layers * round(options["ratio"] * 6))
    elif name in ("wanda", "sparsegpt", "magnitude"):
        named = [(e.block, n) for e in model.edits if isinstance(e, SetWeights) for n in e.matrices]
        zeros = [model.blocks[block].weight(matrix) == 0 for block, matrix in named]
        share = sum(int(z.sum()) for z in zeros) / sum(z.numel() for z in zeros)
        assert share == pytest.approx(0.5, abs=0.02)
    elif name in ("rtn", "gptq", "awq"):
        parts = options.get("targets", ("experts", "shared"))
        edits = [edit for edit in model.edits if isinstance(edit, QuantizeWeights)]
        done = [(edit.block, matrix) for edit in edits for matrix in edit.matrices]
        wanted = [(b.index, m.name) for b in base.blocks for m in b.matrices(*parts)]
        assert sorted(done) == sorted(wanted)


def test_a_method_from_a_file(tmp_path: Path, tiny: Tiny, calibration: Calibrate) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from typing import ClassVar\n"
        "from harness.model.edits import DropMoE\n"
        "from harness.method.contract import Method\n"
        "class LastLayer(Method):\n"
        "    name: ClassVar[str] = 'last-layer'\n"
        "    reference: ClassVar[str] = 'none'\n"
        "    def compress(self, model, calibration):\n"
        "        yield DropMoE(block=model.moe_blocks()[-1].index)\n"
    )
    name = f"{file}:LastLayer"
    model = run(tiny("mixtral"), calibration(), name, {})
    assert model.edits == (DropMoE(block=3),)
    assert method(name).name == "last-layer"


def test_grad_mode_is_the_harnesss(tiny: Tiny, calibration: Calibrate) -> None:
    assert torch.is_grad_enabled()
    run(tiny("mixtral"), calibration(), "eep", {"keep": 4})
    assert torch.is_grad_enabled()


def test_tokens_seen_per_expert_are_counted(tiny: Tiny) -> None:
    ids = torch.randint(0, 53, (4, 12), generator=torch.Generator().manual_seed(0))
    calibration = Calibration(Tokens(ids, None, "x", 0, "x"), batch_size=2)
    run(tiny("qwen2_moe"), calibration, "expert-drop", {"keep": 4})
    seen = {index: int(one.count.sum()) for index, one in calibration.coverage.items()}
    assert seen == dict.fromkeys(range(4), 48 * 3)
