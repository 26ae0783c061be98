"""Sizes that a configuration may have, held to before anything is built of it.

They are far above every model that there is: what lies beyond them is a slip of the hand, and would
take all memory, or the whole day, before anything could be said about it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.errors import UserError


class Limit(NamedTuple):
    """The smallest and the largest value of a field."""

    least: int
    most: int


_LAYERS = Limit(1, 1_000)
_WIDTH = Limit(1, 2**18)
_EXPERTS = Limit(0, 2**14)
_HEADS = Limit(1, 2**12)
_SOME = Limit(0, 2**20)

NEEDED: Mapping[str, Limit] = {
    "hidden_size": _WIDTH,
    "num_hidden_layers": _LAYERS,
    "vocab_size": Limit(1, 2**24),
}
"""Fields that are numbers wherever they stand."""
LIMITS: Mapping[str, Limit] = {
    **NEEDED,
    "decoder_sparse_step": Limit(0, 1_000),
    "first_k_dense_replace": Limit(0, 1_000),
    "head_dim": _WIDTH,
    "intermediate_size": Limit(1, 2**20),
    "kv_lora_rank": _WIDTH,
    "max_position_embeddings": Limit(1, 2**31),
    "max_window_layers": _SOME,
    "moe_intermediate_size": Limit(1, 2**20),
    "moe_layer_freq": Limit(1, 1_000),
    "n_group": _EXPERTS,
    "n_routed_experts": _EXPERTS,
    "n_shared_experts": _EXPERTS,
    "num_attention_heads": _HEADS,
    "num_experts": _EXPERTS,
    "num_experts_per_tok": _EXPERTS,
    "num_key_value_heads": _HEADS,
    "num_local_experts": _EXPERTS,
    "q_lora_rank": _WIDTH,
    "qk_nope_head_dim": Limit(0, 2**18),
    "qk_rope_head_dim": Limit(0, 2**18),
    "shared_expert_intermediate_size": Limit(0, 2**20),
    "sliding_window": Limit(0, 2**31),
    "topk_group": _EXPERTS,
    "v_head_dim": _WIDTH,
}
"""Fields by name; a null is transformers' to understand, unless the field is needed."""


LARGEST = 2**34
"""Values in one tensor: twice as many as in the largest published stack of experts."""
TENSORS: tuple[tuple[str, ...], ...] = (
    ("vocab_size", "hidden_size"),
    ("hidden_size", "intermediate_size"),
    ("hidden_size", "num_attention_heads", "head_dim"),
    ("num_local_experts", "intermediate_size", "hidden_size"),
    ("num_experts", "moe_intermediate_size", "hidden_size"),
    ("n_routed_experts", "moe_intermediate_size", "hidden_size"),
)
"""Fields whose product is the number of values of a tensor, where a configuration has them all."""


def check_limits(config: Mapping[str, Any], where: str) -> None:
    """Check the sizes in a configuration.

    Args:
        config: The values of `config.json`.
        where: The file.

    Raises:
        UserError: a size is no whole number, or beyond its limit; names field and limit.
    """
    _check_each(config, where)
    for fields in TENSORS:
        sizes = [config.get(field) or 0 for field in fields]
        if math.prod(sizes) > LARGEST:
            raise UserError(
                f"{where}: {' x '.join(map(repr, fields))} is {' x '.join(map(str, sizes))}, a "
                f"tensor of more than {LARGEST} values."
            )


def _check_each(config: Mapping[str, Any], where: str) -> None:
    for field, limit in LIMITS.items():
        value = config.get(field, limit.least)
        if value is None and field not in NEEDED:
            continue
        if type(value) is not int or not limit.least <= value <= limit.most:
            shown = json.dumps(value)
            shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
            raise UserError(
                f"{where}: {field!r} should be a whole number of {limit.least} to {limit.most}, "
                f"not {shown}."
            )
