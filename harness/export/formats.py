"""The formats of quantized weights, as data: a new format is a new row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.export import awq_layout, compressed_tensors, gptq_layout
from harness.export.blocking import Limits
from harness.export.folder import Pack
from harness.model.view import MoEModel

_ANY = (0, 32, 64, 128)


@dataclass(frozen=True)
class Format:
    """One row: how weights are written and read, and what the format takes."""

    limits: Limits
    ends: tuple[str, ...]
    """Ends of the names of a quantized layer's tensors; every such layer has the first."""
    pack: Pack
    settings: Callable[[MoEModel], dict[str, Any]]
    """`quantization_config` for a model."""
    read: Callable[[Mapping[str, Tensor], Mapping[str, Any], str], Tensor]
    """The weight of a layer's tensors, the checkpoint's settings, and the layer's name."""
    reader: Callable[[], str]
    """The library, with its version, that `read` reads with."""


FORMATS: dict[str, Format] = {
    "compressed-tensors": Format(
        Limits((4, 8), _ANY, one_scheme=False, whole_outputs=False),
        compressed_tensors.ENDS,
        compressed_tensors.pack,
        compressed_tensors.settings,
        compressed_tensors.read,
        compressed_tensors.reader,
    ),
    "gptq": Format(
        Limits((4, 8), _ANY),
        gptq_layout.ENDS,
        gptq_layout.pack,
        gptq_layout.settings,
        gptq_layout.read,
        gptq_layout.reader,
    ),
    "awq": Format(
        Limits((4,), (32, 64, 128)),
        awq_layout.ENDS,
        awq_layout.pack,
        awq_layout.settings,
        awq_layout.read,
        awq_layout.reader,
    ),
}
