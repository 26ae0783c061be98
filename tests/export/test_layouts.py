"""Packed layouts, decoded here by the definition of each format, bit by bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from harness.export import awq_layout, compressed_tensors, gptq_layout
from harness.export.writing import export
from harness.model.edits import DropBlock, KeepExperts
from harness.model.files.artifact import load, save
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.view import MoEModel

Codes = NDArray[np.int64]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def field(word: int, place: int, bits: int) -> int:
    """The bits of one code in a 32-bit word."""
    return int((word & 0xFFFFFFFF) >> (place * bits)) & ((1 << bits) - 1)


def along_columns(words: Tensor, bits: int, columns: int) -> Codes:
    """A row's codes one after the other, low bits first."""
    each = 32 // bits
    rows = [
        [field(row[column // each], column % each, bits) for column in range(columns)]
        for row in words.tolist()
    ]
    return np.array(rows)


def along_rows(words: Tensor, bits: int, rows: int) -> Codes:
    return along_columns(words.T, bits, rows).T


def awq_columns(words: Tensor) -> Codes:
    """Eight outputs to a word, in AWQ's order."""
    codes = np.zeros((words.shape[0], words.shape[1] * 8), dtype=np.int64)
    for row, column in np.ndindex(*words.shape):
        for place, output in enumerate(AWQ_ORDER):
            word = int(words[row, column])
            codes[row, 8 * column + output] = field(word, place, 4)
    return codes


def from_compressed_tensors(layer: Mapping[str, Tensor], said: Mapping[str, Any]) -> Tensor:
    [group] = said["config_groups"].values()
    bits, symmetric = group["weights"]["num_bits"], group["weights"]["symmetric"]
    outputs, inputs = layer["weight_shape"].tolist()
    # The library's integers are signed: half of the levels is taken off what is stored.
    codes = along_columns(layer["weight_packed"], bits, inputs) - 2 ** (bits - 1)
    groups = layer["weight_scale"].shape[1]
    zeros = np.zeros((outputs, groups), dtype=np.int64)
    if not symmetric:
        zeros = along_rows(layer["weight_zero_point"], bits, outputs) - 2 ** (bits - 1)
    size = inputs if group["weights"]["strategy"] == "channel" else group["weights"]["group_size"]
    return multiplied(codes, zeros, layer["weight_scale"], size)


def from_gptq(layer: Mapping[str, Tensor], said: Mapping[str, Any]) -> Tensor:
    bits, outputs = said["bits"], layer["scales"].shape[1]
    inputs = layer["g_idx"].shape[0]
    size = inputs if said["group_size"] == -1 else said["group_size"]
    assert layer["g_idx"].tolist() == [column // size for column in range(inputs)]
    less = {"gptq": 1, "gptq_v2": 0}[said["checkpoint_format"]]
    zeros = along_columns(layer["qzeros"], bits, outputs).T + less
    codes = along_rows(layer["qweight"], bits, inputs).T
    return multiplied(codes, zeros, layer["scales"].T, size)


def from_awq(layer: Mapping[str, Tensor], said: Mapping[str, Any]) -> Tensor:
    codes, zeros = awq_columns(layer["qweight"]).T, awq_columns(layer["qzeros"]).T
    return multiplied(codes, zeros, layer["scales"].T, said["group_size"])


def multiplied(codes: Codes, zeros: Codes, scales: Tensor, size: int) -> Tensor:
    """(code - zero) * scale, the groups `size` inputs wide."""
    group = np.arange(codes.shape[1]) // size
    whole = torch.from_numpy(codes - zeros[:, group]).double()
    return (whole * scales.double()[:, group]).to(scales.dtype)


DECODERS = {
    "compressed-tensors": from_compressed_tensors,
    "gptq": from_gptq,
    "awq": from_awq,
}
CASES = [
    ("awq", Scheme(bits=4, group=32)),
    ("awq", Scheme(bits=4, group=32, symmetric=True)),
    *(
        (to, Scheme(bits=bits, group=group, symmetric=symmetric))  # type: ignore[arg-type]
        for to in ("compressed-tensors", "gptq")
        for bits, group, symmetric in ((4, 32, False), (4, 0, True), (8, 32, True), (8, 0, False))
    ),
]


@pytest.mark.parametrize(("to", "scheme"), CASES)
def test_each_layout_by_its_definition(
    to: str,
    scheme: Scheme,
    wide: Callable[..., MoEModel],
    quantize: Callable[..., None],
    tmp_path: Path,
) -> None:
    model = wide("mixtral")
    quantize(model, scheme)
    proof = export(model, tmp_path / "out", to)
    assert proof.quantized == 3 * (4 + 6 * 3)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    said = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    roles = {"gate": "w1", "up": "w3", "down": "w2"}
    names = {
        f"experts.{expert}.{role}": f"block_sparse_moe.experts.{expert}.{name}"
        for expert in (0, 5)
        for role, name in roles.items()
    } | {"attention.k": "self_attn.k_proj"}
    for matrix, name in names.items():
        path = f"model.layers.1.{name}."
        layer = {key.removeprefix(path): stored[key] for key in stored if key.startswith(path)}
        assert torch.equal(DECODERS[to](layer, said), model.blocks[1].weight(matrix))
        assert f"{path}weight" not in stored
    assert "model.layers.1.block_sparse_moe.gate.weight" in stored


def test_words_as_they_were_pinned() -> None:
    """One output row of codes 0 to 7 and seven of zeros; every zero is 3, in 4 bits."""
    codes = torch.zeros(8, 8, dtype=torch.uint8)
    codes[0] = torch.arange(8)
    codes[1, 0] = 9
    scales, zeros = torch.ones(8, 1), torch.full((8, 1), 3, dtype=torch.uint8)
    weight = Quantized.of(codes, scales, zeros, Scheme(bits=4, group=0))
    ours = compressed_tensors.pack(weight)
    assert ours["weight_packed"].tolist()[:2] == [[0x76543210], [9]]
    assert ours["weight_zero_point"].tolist() == [[0x33333333]]
    assert ours["weight_shape"].tolist() == [8, 8]
    assert gptq_layout.pack(weight)["qweight"].tolist() == [[0x76543210, 9, 0, 0, 0, 0, 0, 0]]
    assert gptq_layout.pack(weight)["qzeros"].tolist() == [[0x33333333]]
    # The second output is the fifth code of a word.
    assert awq_layout.pack(weight)["qweight"][0].tolist() == [9 << 16]
    assert awq_layout.pack(weight)["qweight"][5].tolist() == [5]
    middle = Quantized.of(codes, scales, None, Scheme(bits=4, group=0, symmetric=True))
    assert gptq_layout.pack(middle)["qzeros"].tolist() == [[0x77777777]]
    assert "weight_zero_point" not in compressed_tensors.pack(middle)
    negative = Quantized.of(codes.flip(1), scales, zeros, Scheme(bits=4, group=0))
    assert compressed_tensors.pack(negative)["weight_packed"][0].tolist() == [0x01234567]
    high = Quantized.of(codes + 8, scales, zeros, Scheme(bits=4, group=0))
    assert compressed_tensors.pack(high)["weight_packed"][0].tolist() == [0xFEDCBA98 - 2**32]


@pytest.mark.parametrize("to", DECODERS)
@pytest.mark.parametrize("family", ["deepseek", "deepseek_v2", "olmoe", "qwen2_moe", "qwen3_moe"])
def test_pruned_reloaded_and_exported(
    family: str,
    to: str,
    wide: Callable[..., MoEModel],
    quantize: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Experts and blocks gone, some parts whole, through an artifact on disk."""
    model = wide(family)
    for block in model.moe_blocks():
        model.apply(KeepExperts(block=block.index, experts=(5, 1, 2, 0)))
    model.apply(DropBlock(block=1))
    quantize(model, Scheme(bits=4, group=32), ("experts", "dense"))
    save(model, tmp_path / "artifact")
    loaded = load(tmp_path / "artifact")
    proof = export(loaded, tmp_path / "out", to)
    assert proof.experts == 12 * len(loaded.moe_blocks())
    assert proof.quantized == proof.experts + 3 * (2 - len(loaded.moe_blocks()))


@pytest.mark.parametrize("family", ["deepseek_v2", "mixtral", "qwen2_moe"])
def test_what_is_left_whole_is_said(
    family: str, wide: Callable[..., MoEModel], quantize: Callable[..., None]
) -> None:
    model = wide(family)
    quantize(model, Scheme(bits=4, group=32, symmetric=True), only=lambda b, n: b == 2)
    mlp = "block_sparse_moe" if family == "mixtral" else "mlp"
    skipped = awq_layout.settings(model)["modules_to_not_convert"]
    assert {"lm_head", f"model.layers.1.{mlp}.experts", f"model.layers.2.{mlp}.gate"} <= {*skipped}
    assert not any(".layers.2.self_attn" in name for name in skipped)
    ignored = compressed_tensors.settings(model)["ignore"]
    assert rf"re:model\.layers\.1\.{mlp}\.experts\..*" in ignored
    rules = gptq_layout.settings(model)["dynamic"]
    assert rf"-:model\.layers\.1\.{mlp}\.experts(\.|$)" in rules
    if family != "deepseek_v2":
        assert r"-:model\.layers\.1\.self_attn\.qkv_proj(\.|$)" in rules


@pytest.mark.skipif(find_spec("compressed_tensors") is None, reason="no compressed-tensors here")
@pytest.mark.parametrize("symmetric", [True, False])
def test_compressed_tensors_reads_it(
    symmetric: bool,
    wide: Callable[..., MoEModel],
    quantize: Callable[..., None],
    tmp_path: Path,
) -> None:
    model = wide("mixtral")
    quantize(model, Scheme(bits=4, group=32, symmetric=symmetric))
    proof = export(model, tmp_path / "out", "compressed-tensors")
    assert "compressed-tensors 0." in proof.reader
    assert ("transformers" in proof.reader) == symmetric
