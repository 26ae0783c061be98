"""A copy of a model that has shapes and no weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def meta_copy(module: M) -> M:
    """Copy `module` to the meta device; neither reads nor copies a weight, leaves it as it was.

    Floating-point parameters become bfloat16, the one dtype that every meta kernel takes.
    """
    # deepcopy looks every object up by id first: the tensors are found there, already replaced.
    memo: dict[int, Any] = {id(tensor): _on_meta(tensor) for tensor in _tensors(module)}
    return copy.deepcopy(module, memo)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers and plain attributes that are tensors."""
    for child in module.modules():
        for held in (child._parameters, child._buffers, vars(child)):
            yield from (value for value in held.values() if isinstance(value, Tensor))


def _on_meta(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, nn.Parameter):
        return torch.empty_like(tensor, device="meta")
    dtype = torch.bfloat16 if tensor.is_floating_point() else tensor.dtype
    blank = torch.empty_like(tensor, device="meta", dtype=dtype)
    return nn.Parameter(blank, requires_grad=tensor.requires_grad)
