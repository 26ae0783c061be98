"""The configuration of an exported checkpoint: the base's, with what edits have changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.errors import Refused
from harness.model.view import MoEModel

_PER_BLOCK = ("layer_types", "mlp_layer_types")
"""Lists with one entry per block."""
_NOT_THERE = ("auto_map", "quantization_config")
"""Fields of files that an export does not have, or of another form of the weights."""


def configuration(model: MoEModel) -> Any:
    """A transformers configuration for the model as it is, its blocks numbered anew.

    Raises:
        Refused: no configuration says which of the blocks left are dense.
    """
    config = model.stated_config
    for name in _NOT_THERE:
        if hasattr(config, name):
            delattr(config, name)
    routed = [block for block in model.blocks if block.experts]
    if routed:
        config.num_experts = len(routed[0].experts)
        config.num_experts_per_tok = routed[0].top_k
    if len(model.numbers) < model.base_blocks:
        _drop_blocks(config, model)
    config.architectures = [type(model.frame).__name__]
    config.dtype = model.dtype
    return config


def _drop_blocks(config: Any, model: MoEModel) -> None:
    for name in _PER_BLOCK:
        values = getattr(config, name, None)
        if isinstance(values, list) and len(values) == model.base_blocks:
            setattr(config, name, [values[number] for number in model.numbers])
    config.num_hidden_layers = len(model.numbers)
    routed = [bool(block.experts) for block in model.blocks]
    if hasattr(config, "mlp_only_layers"):
        config.mlp_only_layers = [place for place, has in enumerate(routed) if not has]
        config.decoder_sparse_step = 1
    elif hasattr(config, "first_k_dense_replace"):
        config.first_k_dense_replace, frequency = _dense(config, routed)
        if hasattr(config, "moe_layer_freq"):
            config.moe_layer_freq = frequency


def _dense(config: Any, routed: Sequence[bool]) -> tuple[int, int]:
    """The number of dense blocks at the start, and the period of MoE blocks after them."""
    frequencies = range(1, len(routed) + 1) if getattr(config, "moe_layer_freq", 1) > 1 else (1,)
    for frequency in frequencies:
        for first in range(len(routed) + 1):
            said = [at >= first and at % frequency == 0 for at in range(len(routed))]
            if said == list(routed):
                return first, frequency
    dense = [place for place, has in enumerate(routed) if not has]
    raise Refused(
        f"drop_block leaves dense MLPs at the places {dense} of {len(routed)} blocks, which no "
        f"{config.model_type} configuration can say; drop other blocks."
    )
