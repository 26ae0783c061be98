"""compressed-tensors' `pack-quantized`, as vLLM and llm-compressor have it.

Codes lie along the inputs, as many in an int32 as fit; zeros in the same way along the outputs. The
library's codes are signed, and it adds half of the levels before it packs: what lies in the words
are our codes.

Source: compressed-tensors 0.15 to 0.20, `compressors/pack_quantized`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from harness.export.int32 import from_words, to_words
from harness.export.linears import left_alone, linears
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.view import MoEModel

_PARTS = {
    "experts": r"re:.*\.experts\.\d+\..*",
    "shared": r"re:.*\.shared_experts?\..*",
    "dense": r"re:.*\.mlp\.(gate|up|down|gate_up)_proj$",
    "attention": r"re:.*\.self_attn\..*",
}
"""Linear layers by part, for vLLM's fused ones too."""
_FORMAT = "pack-quantized"
_PACKED, _SCALE, _ZERO, _SHAPE = (
    "weight_packed",
    "weight_scale",
    "weight_zero_point",
    "weight_shape",
)
ENDS = (_PACKED, _SCALE, _ZERO, _SHAPE)
"""Ends of the names of a quantized layer's tensors."""


def pack(weight: Quantized) -> dict[str, Tensor]:
    """A matrix as the format's tensors, by the ends of their names."""
    bits = weight.scheme.bits
    tensors = {
        _PACKED: to_words(weight.unpacked(), bits),  # int32 [outputs, inputs bits / 32]
        _SCALE: weight.scales,  # [outputs, groups]
        _SHAPE: torch.tensor(weight.shape, dtype=torch.int64),
    }
    if weight.zeros is not None:
        tensors[_ZERO] = to_words(weight.zeros.mT, bits).mT  # int32 [outputs bits / 32, groups]
    return tensors


def settings(model: MoEModel) -> dict[str, Any]:
    """`quantization_config` of config.json: one scheme for all, or one for each part."""
    schemes = {one.matrix.part: one.scheme for one in linears(model) if one.scheme is not None}
    if len(set(schemes.values())) == 1:
        groups = [(["Linear"], scheme) for scheme in set(schemes.values())]
    else:
        groups = [([_PARTS[part]], scheme) for part, scheme in schemes.items()]
    return {
        "quant_method": "compressed-tensors",
        "format": _FORMAT,
        "quantization_status": "compressed",
        "kv_cache_scheme": None,
        "ignore": [_ignored(path) for path in left_alone(model, fused=False)],
        "config_groups": {f"group_{number}": _group(*one) for number, one in enumerate(groups)},
    }


def read(tensors: Mapping[str, Tensor], said: Mapping[str, Any], path: str) -> Tensor:
    """A layer's weight, [outputs, inputs] in the scales' dtype; by the library if it is there.

    Args:
        tensors: Of the layer, by the ends of their names.
        said: The checkpoint's `quantization_config`.
        path: The layer's name.
    """
    if installed():
        return _by_library(tensors, said, path)
    outputs, inputs = tensors[_SHAPE].tolist()
    bits = tensors[_PACKED].shape[1] * 32 // inputs
    scale = tensors[_SCALE].float()
    codes = from_words(tensors[_PACKED], bits)[:, :inputs]  # [outputs, inputs]
    zeros = torch.full_like(scale, 2 ** (bits - 1))  # [outputs, groups]
    if _ZERO in tensors:
        zeros = from_words(tensors[_ZERO].mT, bits).mT[:outputs].float()
    each = inputs // scale.shape[1]
    weight = (codes - zeros.repeat_interleave(each, 1)) * scale.repeat_interleave(each, 1)
    return weight.to(tensors[_SCALE].dtype)


def reader() -> str:
    """The library, with its version, that `read` reads with."""
    if not installed():
        return "moebench's decoder (compressed-tensors is not installed)"
    return f"compressed-tensors {version('compressed-tensors')}"


def installed() -> bool:
    """True if the library is installed."""
    return find_spec("compressed_tensors") is not None


def _by_library(tensors: Mapping[str, Tensor], said: Mapping[str, Any], path: str) -> Tensor:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    groups = QuantizationConfig.model_validate(said).config_groups
    [scheme] = [group for group in groups.values() if _matches(group.targets, path)]
    compressor = BaseCompressor.get_value_from_registry(_FORMAT)
    weight: Tensor = compressor.decompress(dict(tensors), scheme)["weight"]
    return weight


def _matches(targets: list[str], path: str) -> bool:
    return any(
        target == "Linear" or re.match(target.removeprefix("re:"), path) for target in targets
    )


def _ignored(path: str) -> str:
    return f"re:{re.escape(path)}\\..*" if path.endswith(".experts") else path


def _group(targets: list[str], scheme: Scheme) -> dict[str, Any]:
    weights = {
        "num_bits": scheme.bits,
        "type": "int",
        "symmetric": scheme.symmetric,
        "strategy": "group" if scheme.group else "channel",
        "group_size": scheme.group or None,
        "dynamic": False,
    }
    return {
        "targets": targets,
        "weights": weights,
        "input_activations": None,
        "output_activations": None,
        "format": _FORMAT,
    }
