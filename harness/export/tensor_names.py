"""The names under which published checkpoints hold the weights of a block."""

from __future__ import annotations

from torch import Tensor

from harness.model.files.tensors import LAYER
from harness.model.view import Block

_MLP = "mlp"
_MIXTRAL_MLP = "block_sparse_moe"
_MIXTRAL_ROLES = {"gate": "w1", "up": "w3", "down": "w2"}


def module_name(block: Block, position: int, matrix: str) -> str:
    """Path of the linear layer that holds a matrix.

    Experts are numbered anew, in the order of the router's rows.

    Args:
        block: Where the matrix is.
        position: The block's number in the checkpoint.
        matrix: Its name in the block.
    """
    family = block.model.family
    mixtral = family.model_type == "mixtral"
    layer, mlp = f"{LAYER}{position}", _MIXTRAL_MLP if mixtral else _MLP
    part, _, rest = matrix.partition(".")
    if part == "experts":
        number, role = rest.split(".")
        name = _MIXTRAL_ROLES[role] if mixtral else f"{role}_proj"
        return f"{layer}.{mlp}.experts.{block.rows.index(int(number))}.{name}"
    if part == "router":
        return f"{layer}.{mlp}.{family.shared_gate if rest else 'gate'}"
    if part == "attention":
        return f"{layer}.self_attn.{rest if rest.endswith('_mqa') else f'{rest}_proj'}"
    owner = f"{mlp}.{family.shared}" if part == "shared" else mlp
    return f"{layer}.{owner}.{rest}_proj"


def rest(block: Block, position: int) -> dict[str, Tensor]:
    """The tensors of a block that are of no matrix: norms and biases, by their full names."""
    layer = f"{LAYER}{position}."
    weights = {  # in memory, transformers 5 has every family's MoE layer under the same name
        module_name(block, position, matrix.name).replace(_MIXTRAL_MLP, _MLP) + ".weight"
        for matrix in block.matrices()
        if matrix.part != "experts"
    }
    state = {f"{layer}{name}": tensor for name, tensor in block.layer.state_dict().items()}
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(f"{layer}{_MLP}.experts.")
        and name.partition(".weight")[0] + ".weight" not in weights
    }
