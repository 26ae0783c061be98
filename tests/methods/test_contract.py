"""What every registered method keeps to on whole models; compressed ones are in contract/."""

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
from harness.method.registry import build, method, names
from harness.model.edits import (
    EDITS,
    DropBlock,
    DropMoE,
    LowRank,
    QuantizeWeights,
    SetWeights,
)
from harness.model.files.artifact import load, save
from harness.model.files.tensors import state
from harness.model.view import MoEModel
from tests.methods.contract.cases import WHOLE, whole
from tests.methods.contract.outcome import Outcome

HAS_DENSE = ("deepseek", "deepseek_v2", "qwen3_moe")
BLIND = ("random", "block-drop", "magnitude", "svd", "finetune", "rtn")
"""Methods that ask for no statistic of experts, so that nobody counts the tokens they saw."""
WITHOUT_BUDGET = ("eep-skip", "finetune")
CASE_IDS = [f"{name}-{'-'.join(map(str, options.values()))}" for name, options in WHOLE]
Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]


def run(model: MoEModel, calibration: Calibration, name: str, options: dict[str, Any]) -> MoEModel:
    compress(model, [BoundStep(build(name, options), calibration)])
    return model


def logits(model: MoEModel) -> Tensor:
    with torch.no_grad():
        return model.lm(torch.arange(20).reshape(2, 10)).logits  # type: ignore[no-any-return]


def test_every_method_has_a_reference_and_a_docstring() -> None:
    for name, kind in ((name, method(name)) for name in names()):
        assert kind.name == name
        assert kind.reference
        assert kind.__doc__


@pytest.mark.parametrize(("name", "options"), WHOLE, ids=CASE_IDS)
def test_legal_deterministic_within_budget_and_reloadable(
    name: str,
    options: dict[str, Any],
    family: str,
    tiny: Tiny,
    calibration: Calibrate,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    model = tiny(family)
    base = {key: tensor.clone() for key, tensor in state(model).items()}
    versions = model.snapshot()
    run(model, calibration(), name, options)
    request.node.user_properties.append(Outcome.of(whole(family, name, options), "").recorded())
    assert model.edits
    assert all(edit.kind in EDITS for edit in model.edits)
    for index, (version, _) in versions.items():  # the base was never written
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


def check_dry_run(
    name: str, options: dict[str, Any], family: str, dry: MoEModel, real: MoEModel
) -> None:
    """No tokens, no weights: what the real run leaves, to the parameter where that is decided."""
    everywhere = options.get("scope") == "global"
    assert {e.kind for e in dry.edits} == {e.kind for e in real.edits} or everywhere
    assert len(dry.numbers) == len(real.numbers)
    if everywhere:
        return  # a layer that loses all its experts loses its router too
    if name in ("layer-drop", "block-drop") and family in HAS_DENSE:
        return  # which blocks go decides how much: one of them is dense
    sizes = [model.lm.num_parameters() for model in (dry, real)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(("name", "options"), WHOLE, ids=CASE_IDS)
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
    assert unseen == (name not in BLIND)


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
    else:
        assert name in WITHOUT_BUDGET, f"say here how much {name} removes"


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


def test_an_edit_that_no_model_can_have_is_one_sentence(
    tmp_path: Path, tiny: Tiny, calibration: Calibrate
) -> None:
    file = tmp_path / "twice.py"
    file.write_text(
        "from typing import ClassVar\n"
        "from harness.method import KeepExperts, Method\n"
        "class Twice(Method):\n"
        "    name: ClassVar[str] = 'twice'\n"
        "    reference: ClassVar[str] = 'none'\n"
        "    def compress(self, model, calibration):\n"
        "        yield KeepExperts(block=0, experts=(1, 1))\n"
    )
    with pytest.raises(Refused, match=r"^method 'twice' made no valid Keep.*names 1 twice"):
        run(tiny("mixtral"), calibration(), f"{file}:Twice", {})
