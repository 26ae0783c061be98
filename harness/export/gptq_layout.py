"""The layout of AutoGPTQ and GPTQModel, which vLLM and transformers read.

`qweight` int32 [inputs bits / 32, outputs] with codes along the inputs, `qzeros` int32 [groups,
outputs bits / 32] with zeros along the outputs, `scales` [groups, outputs], and `g_idx` int32
[inputs], the group of each input.

In the first version of the format ("gptq") qzeros holds the zero less 1, and a zero of 0 has no
place in it: it would borrow from its neighbours. Symmetric grids, whose zero is in the middle, are
written so, since every reader takes that; asymmetric ones in the second version ("gptq_v2").

Source: GPTQModel 7.6, `nn_modules/qlinear` and `utils/model.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.export.int32 import from_words, to_words
from harness.export.linears import dynamic, linears
from harness.model.quantized.scheme import Quantized
from harness.model.view import MoEModel

ENDS = ("qweight", "qzeros", "scales", "g_idx")
"""Ends of the names of a quantized layer's tensors."""


def pack(weight: Quantized) -> dict[str, Tensor]:
    """A matrix as the format's tensors, by the ends of their names."""
    scheme, inputs = weight.scheme, weight.inputs
    if weight.zeros is None:
        zeros = torch.full_like(weight.scales, scheme.levels // 2 - 1, dtype=torch.uint8)
    else:
        zeros = weight.zeros
    return {
        "qweight": to_words(weight.unpacked(), scheme.bits).mT,
        "qzeros": to_words(zeros.mT, scheme.bits),
        "scales": weight.scales.mT,
        "g_idx": torch.arange(inputs, dtype=torch.int32) // (scheme.group or inputs),
    }


def settings(model: MoEModel) -> dict[str, Any]:
    """`quantization_config` of config.json."""
    scheme = next(one.scheme for one in linears(model) if one.scheme is not None)
    version = "gptq" if scheme.symmetric else "gptq_v2"
    return {
        "quant_method": "gptq",
        "bits": scheme.bits,
        "group_size": scheme.group or -1,
        "sym": scheme.symmetric,
        "desc_act": False,
        "lm_head": False,
        "checkpoint_format": version,
        "format": version,
        "dynamic": dynamic(model),
    }


def read(tensors: Mapping[str, Tensor], said: Mapping[str, Any], path: str) -> Tensor:
    """A layer's weight, [outputs, inputs] in the scales' dtype.

    Args:
        tensors: Of the layer, by the ends of their names.
        said: The checkpoint's `quantization_config`.
        path: The layer's name.
    """
    bits, scales = int(said["bits"]), tensors["scales"]
    codes = from_words(tensors["qweight"].mT, bits).mT  # [inputs, outputs]
    zeros = from_words(tensors["qzeros"], bits) + (said["checkpoint_format"] == "gptq")
    group = tensors["g_idx"].long()
    weight: Tensor = (codes - zeros[group]).float() * scales.float()[group]
    return weight.to(scales.dtype).mT


def reader() -> str:
    """The library, with its version, that `read` reads with."""
    return "moebench's decoder"
