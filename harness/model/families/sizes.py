"""Numbers of a configuration that no model can be built of."""

from __future__ import annotations

from typing import Any

from harness.errors import UserError


def refuse_impossible(config: Any, where: str) -> None:
    """Hold the numbers in a configuration to each other.

    A pad token of -1 is none. Other special tokens beyond the vocabulary are never generated, and
    are left alone.

    Args:
        config: Of transformers.
        where: The file, or the model.

    Raises:
        UserError: a number is missing or does not go with another; both are named.
    """
    _pad(config, where)
    _heads(config, where)
    if getattr(config, "num_experts", None) is not None:
        _router(config, where)
    if config.model_type == "deepseek_v2":
        _deepseek(config, where)
    shared = getattr(config, "n_shared_experts", 1)
    if not isinstance(shared, int) or shared < 1:
        raise UserError(
            f"{where}: n_shared_experts {shared!r} stands for no shared expert, and transformers' "
            f"{config.model_type} has no blocks without one."
        )


def _pad(config: Any, where: str) -> None:
    pad, rows = getattr(config, "pad_token_id", None), config.vocab_size
    if pad is not None and not -1 <= pad < rows:
        raise UserError(
            f"{where}: pad_token_id {pad} is beyond the vocabulary, which ends at {rows - 1}; "
            "write null, or a token's id."
        )


def _heads(config: Any, where: str) -> None:
    heads, keys = config.num_attention_heads, config.num_key_value_heads
    if keys < 1 or heads % keys:
        raise UserError(
            f"{where}: num_key_value_heads {keys} does not divide num_attention_heads, {heads}."
        )
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    if size < 2 or size % 2:
        raise UserError(
            f"{where}: heads of {size} dimensions cannot be rotated by halves; hidden_size, "
            "num_attention_heads, head_dim or qk_rope_head_dim is wrong."
        )


def _router(config: Any, where: str) -> None:
    chosen, experts = getattr(config, "num_experts_per_tok", None), config.num_experts
    if not isinstance(chosen, int) or not 1 <= chosen <= experts:
        raise UserError(
            f"{where}: num_experts_per_tok {chosen!r} should lie between 1 and the number of "
            f"experts, {experts}."
        )


def _deepseek(config: Any, where: str) -> None:
    if config.topk_method == "group_limited_greedy":
        groups, chosen = config.n_group, config.topk_group
        if not groups or groups < 1 or config.num_experts % groups:
            raise UserError(
                f"{where}: n_group {groups!r} does not divide the {config.num_experts} experts "
                "into equal groups, which group_limited_greedy needs."
            )
        if not chosen or not 1 <= chosen <= groups:
            raise UserError(
                f"{where}: topk_group {chosen!r} should lie between 1 and n_group, {groups}."
            )
    heads, keys = config.num_attention_heads, config.num_key_value_heads
    if keys != heads:
        raise UserError(
            f"{where}: num_key_value_heads {keys} should be num_attention_heads, {heads}: latent "
            "attention has a key for every head."
        )
