"""Tensors in the cache: sealed safetensors, of the names, shapes and types that are expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from harness.cache import sealed
from harness.errors import first_line


def read(
    path: Path, like: Mapping[str, Tensor], *, finite: bool = True
) -> dict[str, Tensor] | None:
    """Return the tensors of a file, on the devices of those in `like`.

    None where there are none; None with a warning where they are damaged or others than expected.

    Args:
        path: As `write` got it.
        like: Tensors of the names, shapes and dtypes that are expected; values do not matter.
        finite: Expect neither infinities nor NaN.
    """
    body = sealed.read_bytes(path)
    if body is None:
        return None
    try:
        tensors = safetensors.torch.load(body)
    except SafetensorError as error:
        sealed.damaged(path, f"it holds no tensors ({first_line(error)})")
        return None
    if _forms(tensors) != _forms(like):
        sealed.damaged(path, "it holds tensors of other names, shapes or types")
        return None
    if finite and not all_finite(tensors):
        sealed.damaged(path, "it holds values that are not finite")
        return None
    return {name: tensor.to(like[name].device) for name, tensor in tensors.items()}


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors with a seal; a cache that cannot be written is a warning."""
    sealed.write_bytes(path, packed(tensors))


def packed(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return tensors as the bytes of a safetensors file."""
    # A view would be refused where it shares memory with another, and saved whole where it is one.
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(own, metadata)


def all_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Return True if no tensor holds an infinity or NaN."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
