"""An export that is not the artifact is found out, and nothing of it is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import UserError
from harness.export import compressed_tensors, proof
from harness.export import folder as checkpoint
from harness.export.formats import FORMATS
from harness.export.writing import export
from harness.model.edits import KeepExperts, SkipExperts
from harness.model.files.artifact import save
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.view import MoEModel

Break = Callable[[dict[str, Tensor]], None]
FOUR = Scheme(bits=4, group=32)


def breaking(monkeypatch: pytest.MonkeyPatch, change: Break) -> None:
    """Let the writer write something else than the model."""
    written = checkpoint._block

    def other(*arguments: Any) -> dict[str, Tensor]:
        files = written(*arguments)
        change(files)
        return files

    monkeypatch.setattr(checkpoint, "_block", other)


def fails(model: MoEModel, to: str, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        export(model, folder / "out", to)
    assert not list(folder.iterdir())
    return str(caught.value)


def lose(name: str) -> Break:
    def change(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if name in key]:
            del tensors[key]

    return change


def swap(one: str, other: str) -> Break:
    def change(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if one in key]:
            across = key.replace(one, other)
            tensors[key], tensors[across] = tensors[across], tensors[key]

    return change


def test_missing_experts_are_not_drawn_at_random(
    tiny: Callable[..., MoEModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch, lose("experts.2.w1"))
    sentence = fails(tiny("mixtral"), "hf", tmp_path)
    assert sentence.startswith("transformers cannot read the export: ")


def test_a_left_over_tensor(
    tiny: Callable[..., MoEModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        if "model.layers.0.input_layernorm.weight" in tensors:
            tensors["model.layers.0.mlp.extra.weight"] = torch.ones(2)

    breaking(monkeypatch, add)
    sentence = fails(tiny("olmoe"), "hf", tmp_path)
    assert sentence == (
        "transformers finds unexpected keys in the export: model.layers.0.mlp.extra.weight."
    )


@pytest.mark.parametrize("to", ["hf", *FORMATS])
def test_two_experts_that_changed_places(
    to: str,
    wide: Callable[..., MoEModel],
    quantize: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = wide("qwen2_moe")
    if to != "hf":
        quantize(model, FOUR, ("experts",))
    breaking(monkeypatch, swap("experts.1.up_proj", "experts.4.up_proj"))
    sentence = fails(model, to, tmp_path)
    assert sentence.startswith("block 0, experts.1.up of the export, as ")
    assert "differs by up to" in sentence


@pytest.mark.parametrize("to", FORMATS)
def test_a_quantized_layer_that_is_missing(
    to: str,
    wide: Callable[..., MoEModel],
    quantize: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = wide("mixtral")
    quantize(model, FOUR, ("experts",))
    breaking(monkeypatch, lose("layers.1.block_sparse_moe.experts.3.w2."))
    monkeypatch.setattr(compressed_tensors, "installed", lambda: False)
    sentence = fails(model, to, tmp_path)
    assert "1 tensors are missing: model.layers.1" in sentence


def test_a_code_off_by_one(
    wide: Callable[..., MoEModel],
    quantize: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = wide("deepseek_v2")
    quantize(model, FOUR, ("experts", "attention"))

    right = FORMATS["gptq"]

    def pack(weight: Quantized) -> dict[str, Tensor]:
        tensors = right.pack(weight)
        if weight.shape == (32, 64):  # experts' gate and up
            tensors["qweight"] = tensors["qweight"] ^ 1
        return tensors

    monkeypatch.setitem(FORMATS, "gptq", dataclasses.replace(right, pack=pack))
    sentence = fails(model, "gptq", tmp_path)
    assert sentence.startswith("block 1, experts.0.gate of the export")


def test_the_verb(
    tiny: Callable[..., MoEModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("mixtral")
    for block in model.moe_blocks():
        model.apply(KeepExperts(block=block.index, experts=(0, 3)))
    save(model, tmp_path / "artifact")
    command = ["export", str(tmp_path / "artifact"), "--to", "hf", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "24 matrices, equal to the bit" in done.output
    assert (tmp_path / "out" / "config.json").is_file()
    model.apply(SkipExperts(block=2, beta=0.2))
    save(model, tmp_path / "skipping")
    command[1], command[-1] = str(tmp_path / "skipping"), str(tmp_path / "other")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "skip_experts in block 2" in done.output
    assert not (tmp_path / "other").exists()


def test_streamed_from_an_artifact(
    wide: Callable[..., MoEModel], quantize: Callable[..., None], tmp_path: Path
) -> None:
    from harness.model.files.opening import open_model

    model = wide("qwen2_moe")
    quantize(model, FOUR)
    save(model, tmp_path / "artifact")
    streamed = open_model(str(tmp_path / "artifact"), streaming=True)
    computed = export(streamed, tmp_path / "out", "awq")
    assert (computed.experts, computed.quantized) == (54, 54 + 21)
    assert proof.prove(model, tmp_path / "out", "awq") == computed
