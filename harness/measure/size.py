"""Parameters and bytes of a loaded model and of its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from harness.measure.moe_layers import loaded, moe_layers
from harness.model.checkpoint import shards
from harness.model.layers.packed import Packed, weights
from harness.records.record import Size

if TYPE_CHECKING:
    from harness.model.view import MoEModel


def measure_size(
    model: MoEModel | PreTrainedModel, folder: Path | None, *, values: bool = True
) -> Size:
    """Count the parameters of `model` and the bytes it takes.

    Args:
        model: As loaded; tied weights count once. On the meta device every count but
            `nonzero_parameters` is the one the real model has.
        folder: Where its safetensors files are; None when it has none.
        values: Whether the weights' values are anybody's; of random ones none is counted as zero.

    Returns:
        Counts of parameters and bytes; see `docs/measurement.md`.
    """
    lm = loaded(model)
    parameters = weights(lm)
    return Size(
        parameters=parameters,
        expert_parameters=sum(layer.expert_parameters for layer in moe_layers(lm)),
        active_parameters=parameters - idle_parameters(lm),
        nonzero_parameters=nonzero_parameters(lm) if values else None,
        resident_bytes=resident_bytes(lm),
        artifact_bytes=None if folder is None else artifact_bytes(folder),
    )


def idle_parameters(lm: PreTrainedModel) -> int:
    """Parameters of the routed experts that a token does not visit.

    Exact when the experts of a layer are equal; otherwise the mean over the experts.
    """
    return sum(
        layer.expert_parameters * max(layer.count - layer.top_k, 0) // layer.count
        for layer in moe_layers(lm)
    )


def nonzero_parameters(lm: PreTrainedModel) -> int | None:
    """Parameters that are not zero; None on the meta device, where there are no values."""
    parameters = list(lm.parameters())
    if any(p.is_meta for p in parameters):
        return None
    packed = (part.nonzero() for part in lm.modules() if isinstance(part, Packed))
    return sum(int(torch.count_nonzero(p.detach())) for p in parameters) + sum(packed)


def resident_bytes(lm: PreTrainedModel) -> int:
    """Bytes of the storages behind parameters and buffers, each storage once.

    A slice keeps the whole storage alive, and so counts all of it.
    """
    storages = {}
    for tensor in (*lm.parameters(), *lm.buffers()):
        storage = tensor.untyped_storage()
        # On the meta device every address is 0; there the storage object tells them apart.
        storages[tensor.device, storage.data_ptr() or storage._cdata] = storage.nbytes()
    return sum(storages.values())


def artifact_bytes(folder: Path) -> int:
    """Bytes of the files that the weights in `folder` are read from.

    Some hub repositories hold the same weights a second time in another layout, which does not
    count.
    """
    return sum(file.stat().st_size for file in shards(folder))
