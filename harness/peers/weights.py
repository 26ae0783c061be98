"""The weights of a block as a peer has them in memory: transformers' modules, experts unfused."""

from __future__ import annotations

from harness.model.editing.matrices import NORMS
from harness.model.view import Block


def module_path(block: Block, name: str) -> str:
    """Path of the module that holds a matrix or norm, within its decoder layer.

    Both peers replace fused experts by one module per expert, `mlp.experts.N.gate_proj`, whatever
    the checkpoint calls them. Experts are numbered in the order of the router's rows.

    Args:
        block: Where the weight is.
        name: The weight's name in the block.
    """
    if name in NORMS:
        return NORMS[name]
    family = block.model.family
    part, _, rest = name.partition(".")
    if part == "experts":
        number, role = rest.split(".")
        return f"mlp.experts.{block.rows.index(int(number))}.{role}_proj"
    if part == "router":
        return f"mlp.{family.shared_gate if rest else 'gate'}"
    if part == "attention":
        return f"self_attn.{rest if rest.endswith('_mqa') else f'{rest}_proj'}"
    return f"mlp.{family.shared}.{rest}_proj" if part == "shared" else f"mlp.{rest}_proj"


def paths(block: Block) -> dict[str, str]:
    """Module paths of all matrices and norms of a block, by name."""
    names = [matrix.name for matrix in block.matrices()]
    names += [name for name in NORMS if block.has(name)]
    return {name: module_path(block, name) for name in names}
