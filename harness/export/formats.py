"""The formats of quantized weights, as data: a new format is a new row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.export import awq, compressed_tensors, gptq
from harness.export.blocking import Limits
from harness.export.folder import Pack
from harness.model.view import MoEModel

_ANY = (0, 32, 64, 128)


@dataclass(frozen=True)
class Format:
    """One row: how weights are written and read, and what the format takes."""

    limits: Limits
    ends: tuple[str, ...]
    """Of the names of a quantized layer's tensors; the first is of every one."""
    pack: Pack
    settings: Callable[[MoEModel], dict[str, Any]]
    """`quantization_config` for a model."""
    read: Callable[[Mapping[str, Tensor], Mapping[str, Any], str], Tensor]
    """The weight of a layer's tensors, the checkpoint's settings, and the layer's name."""
    reader: Callable[[], str]
    """What `read` reads with."""


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
        gptq.ENDS,
        gptq.pack,
        gptq.settings,
        gptq.read,
        gptq.reader,
    ),
    "awq": Format(
        Limits((4,), (32, 64, 128)),
        awq.ENDS,
        awq.pack,
        awq.settings,
        awq.read,
        awq.reader,
    ),
}
