"""A model that overflows, or holds what is not finite, is refused by every method."""

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
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build, names
from harness.model.edits import LowRank, QuantizeWeights, SetWeights
from harness.model.files.artifact import save
from harness.model.files.opening import open_model
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.view import MoEModel
from methods.experts import greedy
from tests.methods.contract.cases import OPTIONS
from tests.models import draw_weights, from_config, tiny_config

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]

WITHOUT_WALK = ("random", "magnitude", "rtn", "svd", "gptqmodel", "llm-compressor")
"""They never run the model themselves: what only running it shows is for the evaluation to say."""
GIVEN = {name: OPTIONS.get(name, [{}])[0] for name in names()}
HALVES = [torch.float16, torch.bfloat16, torch.float32]


def model_of(dtype: torch.dtype) -> MoEModel:
    lm = from_config(tiny_config("mixtral"), dtype=torch.float32)
    draw_weights(lm, 0)
    half: Any = lm
    return MoEModel(half.to(dtype), ref="mixtral", sha256=f"mixtral {dtype}")


def run(model: MoEModel, calibration: Calibration, name: str) -> None:
    compress(model, [BoundStep(build(name, GIVEN[name]), calibration)])


def down(model: MoEModel, block: int) -> Tensor:
    return model.layer(block).mlp.experts.down_proj.data  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", names())
def test_weights_that_a_format_cannot_hold_are_refused(name: str, calibration: Calibrate) -> None:
    model = model_of(torch.float16)
    down(model, 2)[1] = torch.full_like(down(model, 2)[1], 1e5, dtype=torch.float32).half()
    says = r"^block 2: experts\.1\.down is not finite in float16; set dtype to bfloat16 or float32"
    with pytest.raises(Refused, match=says):
        run(model, calibration(), name)
    assert model.edits == ()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", [name for name in names() if name not in WITHOUT_WALK])
def test_a_block_that_overflows_is_refused(
    name: str, dtype: torch.dtype, calibration: Calibrate
) -> None:
    """All weights are finite, and what block 2 gives is not."""
    model = model_of(dtype)
    for index in (0, 5):
        down(model, 2)[index] = torch.finfo(dtype).max / 4
        model.layer(2).mlp.experts.gate_up_proj.data[index] = 30.0
    with pytest.raises(Refused, match=r"^block 2: the output of its experts is not finite"):
        run(model, calibration(), name)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("mlp.gate.weight", "router"),
        ("self_attn.q_proj.weight", "attention"),
        ("post_attention_layernorm.weight", "mlp_norm"),
        ("frame", "model.norm"),
    ],
)
def test_every_weight_is_looked_at(part: str, named: str, calibration: Calibrate) -> None:
    model = model_of(torch.float32)
    owner = model.frame.model.norm if part == "frame" else model.layer(1)
    weights = dict(owner.named_parameters())
    weights["weight" if part == "frame" else part].data.flatten()[-1] = float("nan")
    with pytest.raises(Refused, match="not finite") as refused:
        run(model, calibration(), "random")
    where = "" if part == "frame" else "block 1: "
    assert str(refused.value).startswith((f"{where}{named}", f"{where}{part}"))


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 7e4])
def test_no_edit_brings_a_value_that_is_not_finite(value: float) -> None:
    """Nor one that would not be once it is in the model's own format."""
    scheme = Scheme(bits=4, group=8, symmetric=True)
    packed = Quantized.of(
        torch.zeros(16, 24, dtype=torch.uint8), torch.full((16, 3), value), None, scheme
    )
    broken = torch.zeros(16, 24)
    broken[3, 4] = value
    for edit in (
        SetWeights.of(1, {"experts.1.down": broken}),
        LowRank.of(1, {"experts.1.down": (broken[:, :2] + value, torch.zeros(2, 24))}),
        QuantizeWeights.of(1, {"experts.1.down": packed}),
    ):
        model = model_of(torch.float16)
        with pytest.raises(Refused, match=r"^block 1: the new value of experts\.1\.down\S* is not"):
            model.apply(edit)
        assert model.edits == ()


def test_greedy_ends_whatever_losses_it_is_given() -> None:
    class Broken:
        def losses(self, kept: Tensor) -> Tensor:
            return torch.full((len(kept),), float("nan"), dtype=torch.float64)

    kept = torch.tensor([True, True, False, False])
    errors: Any = Broken()
    assert greedy._swapped(errors, kept, torch.zeros(4, dtype=torch.int64))[1] == 0


def test_a_streamed_block_is_refused_when_it_is_read(tmp_path: Path) -> None:
    config: Any = tiny_config("mixtral")
    lm: Any = from_config(config, dtype=torch.float32)
    lm.model.layers[2].mlp.experts.down_proj.data[4, 3, 2] = 1e6
    lm.save_pretrained(tmp_path / "model")
    model = open_model(str(tmp_path / "model"), dtype=torch.float16, streaming=True)
    none = Calibration(Tokens.empty(4))
    compress(model, [BoundStep(build("random", {"keep": 4}), none)])
    with pytest.raises(Refused, match=r"^block 2: experts\.4\.down is not finite in float16"):
        save(model, tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()
