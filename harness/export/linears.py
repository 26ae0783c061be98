"""The linear layers of an export: which are quantized, and how."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.export.tensor_names import module_name
from harness.model.editing.matrices import Matrix
from harness.model.quantized.scheme import Scheme
from harness.model.view import MoEModel

HEAD = "lm_head"
_FUSED = {"q_proj": "qkv_proj", "gate_proj": "gate_up_proj"}
"""First of the layers that vLLM fuses, and its name for all of them."""


@dataclass(frozen=True)
class Linear:
    """One linear layer of a checkpoint."""

    path: str
    """Its name there."""
    block: int
    """The block's number in the base model."""
    matrix: Matrix
    scheme: Scheme | None
    """None: not quantized."""


def linears(model: MoEModel) -> Iterator[Linear]:
    """Every linear layer of the blocks; nothing is loaded."""
    for position, block in enumerate(model.blocks):
        for matrix in block.matrices():
            path = module_name(block, position, matrix.name)
            yield Linear(path, block.index, matrix, block.packed_scheme(matrix))


def left_alone(model: MoEModel, *, fused: bool) -> list[str]:
    """Paths of what is not quantized; of routed experts, of all in a block together.

    Args:
        model: What is exported.
        fused: Add vLLM's names of fused layers, for formats whose settings vLLM compares with them.
    """
    paths = [HEAD]
    for linear in linears(model):
        if linear.scheme is not None:
            continue
        if linear.matrix.part == "experts":
            paths.append(linear.path.rpartition(".experts.")[0] + ".experts")
            continue
        paths.append(linear.path)
        owner, _, name = linear.path.rpartition(".")
        if fused and name in _FUSED:
            paths.append(f"{owner}.{_FUSED[name]}")
    return list(dict.fromkeys(paths))


def dynamic(model: MoEModel) -> dict[str, dict[str, str]]:
    """GPTQModel's and vLLM's way to say what is not quantized: "-:" and an expression per layer."""
    return {f"-:{re.escape(path)}(\\.|$)": {} for path in left_alone(model, fused=True)}
