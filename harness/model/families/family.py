"""The families of models, as data: a new family is a new row.

What all rows share (transformers 5): a decoder layer has `self_attn`, `input_layernorm`,
`post_attention_layernorm` and `mlp`; a Mixture-of-Experts `mlp` has a router `gate` that returns
(logits, weights, index) and fused `experts` with `gate_up_proj` [experts, 2 ffn, hidden] (gate
rows first) and `down_proj` [experts, hidden, ffn]; a dense one has linear `gate_proj`, `up_proj`
and `down_proj`. Dense families have no other blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import unknown

Layer = Any
"""A transformers decoder layer, or a part of one: their classes have no common type."""

Renormalise = Literal["always", "config", "never"]

_PLAIN_ATTENTION = {
    "q": "attention_norm",
    "k": "attention_norm",
    "v": "attention_norm",
    "o": "attention.v",
}


@dataclass(frozen=True)
class Family:
    """One row: where a family differs from the others."""

    model_type: str
    renormalise: Renormalise
    """Are the weights of the chosen experts divided by their sum? Without experts, "never"."""
    attention: dict[str, str]
    """Linear layers of `self_attn` (attribute without `_proj`) and what feeds each."""
    shared: str | None = None
    """Attribute of the shared experts' MLP."""
    shared_gate: str | None = None
    """Attribute of the sigmoid gate on the shared experts."""
    scaling: str | None = None
    """Configuration field that multiplies the routing weights."""
    dense: bool = False
    """Has the family no experts at all?"""
    float_router: bool = False
    """Are the router's logits computed in fp32 whatever the model's dtype?"""

    def renormalises(self, config: Any) -> bool:
        """True if this configuration divides the chosen weights by their sum."""
        if self.renormalise == "config":
            return bool(config.norm_topk_prob)
        return self.renormalise == "always"

    def routing_scale(self, config: Any) -> float:
        """The factor on all routing weights."""
        return float(getattr(config, self.scaling)) if self.scaling else 1.0


_ROWS = (
    Family("mixtral", "always", _PLAIN_ATTENTION),
    Family(
        "qwen2_moe",
        "config",
        _PLAIN_ATTENTION,
        shared="shared_expert",
        shared_gate="shared_expert_gate",
    ),
    Family("qwen3_moe", "config", _PLAIN_ATTENTION),
    Family("olmoe", "config", _PLAIN_ATTENTION),
    Family(
        "deepseek_v2",
        "never",  # transformers' router ignores norm_topk_prob
        {
            "q": "attention_norm",
            "q_a": "attention_norm",
            "q_b": "attention.q_a",
            "kv_a_proj_with_mqa": "attention_norm",
            "kv_b": "attention.kv_a",
            "o": "attention.kv_b",
        },
        shared="shared_experts",
        scaling="routed_scaling_factor",
        float_router=True,
    ),
    Family("deepseek", "config", _PLAIN_ATTENTION, shared="shared_experts"),
    Family("mistral", "never", _PLAIN_ATTENTION, dense=True),
    Family("llama", "never", _PLAIN_ATTENTION, dense=True),
    Family("qwen2", "never", _PLAIN_ATTENTION, dense=True),
)

FAMILIES: dict[str, Family] = {row.model_type: row for row in _ROWS}


def family_of(config: Any, *, where: str = "") -> Family:
    """The row for a transformers configuration.

    Raises:
        UserError: the model type is not among the families.
    """
    model_type = str(config.model_type)
    if model_type not in FAMILIES:
        raise unknown("model family", model_type, FAMILIES, where=where)
    return FAMILIES[model_type]
