"""Shells: copies of modules that share every tensor, so that an edit never touches the original."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_PER_BLOCK_LISTS = ("layer_types", "mlp_layer_types")
"""Configuration lists with one entry per block that transformers indexes by position."""


def shell(module: nn.Module) -> nn.Module:
    """A copy of the module tree that shares tensors and configurations with the original."""
    memo: dict[int, Any] = _tensors(module)
    for part in module.modules():
        if hasattr(part, "config"):
            memo[id(part.config)] = part.config
    return copy.deepcopy(module, memo)


def put(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Give a shell a new parameter in place of the shared one."""
    setattr(module, name, nn.Parameter(compact(tensor.detach()), requires_grad=False))


def compact(tensor: Tensor) -> Tensor:
    """The tensor in a storage of its own size: a slice would keep, and save, all it is cut from."""
    if tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def align(module: nn.Module) -> None:
    """Move parameters that do not start at a multiple of 64 bytes.

    What safetensors maps from a file starts where the file says; matrix products on other
    alignments take other paths, and logits would differ in their last bits from run to run.
    """
    for parameter in module.parameters():
        if not parameter.is_meta and parameter.data_ptr() % 64:
            parameter.data = parameter.data.clone()


def own(module: nn.Module) -> None:
    """Copy all parameters, one at a time: what is mapped from a file would change with the file."""
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()


def settle(module: nn.Module) -> None:
    """After loading: no parameter is trained, all are aligned in memory."""
    module.requires_grad_(False)
    align(module)


def assemble(frame: PreTrainedModel, blocks: Mapping[int, nn.Module]) -> PreTrainedModel:
    """A runnable model of `frame` (embedding, last norm, head) and the blocks left.

    Blocks are numbered anew for the cache: without that, cached decoding after dropping block 0 is
    silently wrong, because masks and positions are read from the cache of layer 0. The
    configuration is the model's own copy.

    Args:
        frame: A transformers model whose own `model.layers` are ignored.
        blocks: Base number to decoder layer, in order.
    """
    decoder = frame.model
    layers = decoder.layers
    decoder.layers = nn.ModuleList(blocks.values())
    try:
        memo: dict[int, Any] = _tensors(frame)
        out: PreTrainedModel = copy.deepcopy(frame, memo)
    finally:
        decoder.layers = layers
    for position, layer in enumerate(out.model.layers):
        for part in layer.modules():
            if isinstance(getattr(part, "layer_idx", None), int):
                part.layer_idx = position
    total = out.config.num_hidden_layers
    for name in _PER_BLOCK_LISTS:
        values = getattr(out.config, name, None)
        if isinstance(values, list) and len(values) == total:
            setattr(out.config, name, [values[number] for number in blocks])
    out.config.num_hidden_layers = len(blocks)
    return out


def _tensors(module: nn.Module) -> dict[int, Any]:
    return {id(tensor): tensor for tensor in itertools.chain(module.parameters(), module.buffers())}
