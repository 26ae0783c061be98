"""Weights that another library has quantized are refused, whatever the configuration says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.errors import UserError
from harness.model.files.opening import open_meta, open_model

NAME = "model.layers.1.mlp.experts.3.up_proj"
Tensors = dict[str, Tensor]


def int8(tensors: Tensors) -> None:
    tensors[f"{NAME}.weight"] = torch.ones(12, 16, dtype=torch.int8)


def fp8(tensors: Tensors) -> None:
    tensors[f"{NAME}.weight"] = torch.ones(12, 16).to(torch.float8_e4m3fn)


def ends(*names: str) -> Callable[[Tensors], None]:
    def put(tensors: Tensors) -> None:
        for name in names:
            tensors[f"{NAME}.{name}"] = torch.ones(2, dtype=torch.int32)

    return put


@pytest.mark.parametrize(
    "change",
    [
        int8,
        fp8,
        ends("qweight", "qzeros", "scales", "g_idx"),
        ends("weight_packed", "weight_scale"),
        ends("weight_scale_inv"),
        ends("SCB"),
        ends("weight.absmax", "weight.quant_state.bitsandbytes__nf4"),
    ],
)
def test_tensors_of_quantized_weights_are_named(
    change: Callable[[Tensors], None], checkpoint: Callable[..., Path]
) -> None:
    folder = checkpoint("qwen2_moe", shard="1GB")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    asks: list[Callable[[], object]] = [
        lambda: open_model(str(folder)),
        lambda: open_model(str(folder), streaming=True),
        lambda: open_meta(str(folder)),
    ]
    for ask in asks:
        with pytest.raises(UserError, match=rf"is quantized already \(model.safetensors .*{NAME}"):
            ask()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_in_other_formats_of_floating_point_are_read(
    dtype: torch.dtype, checkpoint: Callable[..., Path]
) -> None:
    folder = checkpoint("qwen2_moe", shard="1GB")
    file = folder / "model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    for streaming in (False, True):
        assert open_model(str(folder), streaming=streaming).dtype == torch.float32
