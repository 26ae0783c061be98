"""The layout of AutoAWQ ("gemm"), which vLLM, GPTQModel and transformers read.

`qweight` int32 [inputs, outputs / 8], `qzeros` int32 [groups, outputs / 8], `scales` [groups,
outputs]. Eight codes of neighbouring outputs share a word, the even ones in its lower half. A
symmetric grid is written with its zero, as all readers expect one.

Source: AutoAWQ 0.2.9, `awq/utils/packing_utils.py`; Lin et al., "AWQ", 2023, for the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.export.int32 import from_words, to_words
from harness.export.linears import dynamic, left_alone, linears
from harness.model.quantized.scheme import Quantized
from harness.model.view import MoEModel

ENDS = ("qweight", "qzeros", "scales")
"""Ends of the names of a quantized layer's tensors."""
_BITS = 4
_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The output, of eight, that lies in each place of a word, low bits first."""
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""In which place each of eight outputs lies."""


def pack(weight: Quantized) -> dict[str, Tensor]:
    """A matrix as the format's tensors, by the ends of their names."""
    zeros = weight.zeros
    if zeros is None:
        zeros = torch.full_like(weight.scales, weight.scheme.levels // 2, dtype=torch.uint8)
    return {
        "qweight": to_words(_ordered(weight.unpacked().mT, _ORDER), _BITS),
        "qzeros": to_words(_ordered(zeros.mT, _ORDER), _BITS),
        "scales": weight.scales.mT,
    }


def settings(model: MoEModel) -> dict[str, Any]:
    """`quantization_config` of config.json."""
    scheme = next(one.scheme for one in linears(model) if one.scheme is not None)
    return {
        "quant_method": "awq",
        "bits": _BITS,
        "group_size": scheme.group,
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": left_alone(model, fused=True),
        "dynamic": dynamic(model),  # GPTQModel does not look at the line above
    }


def read(tensors: Mapping[str, Tensor], said: Mapping[str, Any], path: str) -> Tensor:
    """A layer's weight, [outputs, inputs] in the scales' dtype.

    Args:
        tensors: Of the layer, by the ends of their names.
        said: The checkpoint's `quantization_config`.
        path: The layer's name.
    """
    scales, group = tensors["scales"], int(said["group_size"])
    codes = _ordered(from_words(tensors["qweight"], _BITS), _PLACES)  # [inputs, outputs]
    zeros = _ordered(from_words(tensors["qzeros"], _BITS), _PLACES).repeat_interleave(group, 0)
    weight: Tensor = (codes - zeros).float() * scales.float().repeat_interleave(group, 0)
    return weight.to(scales.dtype).mT


def reader() -> str:
    """The library, with its version, that `read` reads with."""
    return "moebench's decoder"


def _ordered(values: Tensor, order: tuple[int, ...]) -> Tensor:
    """[rows, columns], every eight columns in this order."""
    eights = values.reshape(len(values), -1, len(order))
    return eights[:, :, list(order)].flatten(-2)
