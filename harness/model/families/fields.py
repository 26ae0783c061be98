"""Configurations that ask for another model than the one that would run.

transformers leaves out what a family's class does not read, and without a word. Most such fields
are about training, or about other programs. Those here change what a model computes and leave its
tensors as they are, so that nothing else would tell: a router that scores by sigmoids, a window of
attention, a factor on the logits. A field is named with the values under which it changes nothing.

Source: the published code of DeepSeek-V2, Qwen3-MoE and Granite, and transformers' own classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.errors import UserError

Values = tuple[object, ...]

_UNREAD: Mapping[str, Values] = {
    "attention_multiplier": (),
    "attn_logit_softcapping": (0,),
    "clip_qkv": (),
    "embedding_multiplier": (1,),
    "final_logit_softcapping": (0,),
    "is_causal": (True,),
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "moe_layer_freq": (1,),
    "n_group": (0, 1),
    "partial_rotary_factor": (1,),
    "residual_multiplier": (1,),
    "routed_scaling_factor": (1,),
    "scoring_func": ("softmax",),
    "topk_group": (0, 1),
    "topk_method": ("greedy",),
    "use_bidirectional_attention": (False,),
}
"""Fields that transformers' classes do not read, unless the next table says so."""

_READ: Mapping[str, Mapping[str, Values | None]] = {
    "mixtral": {"norm_topk_prob": (True,)},
    "olmoe": {"clip_qkv": None},
    "deepseek_v2": {
        "n_group": None,
        "norm_topk_prob": (False,),
        "routed_scaling_factor": None,
        "topk_group": None,
        "topk_method": ("greedy", "group_limited_greedy"),
    },
    "deepseek": {"moe_layer_freq": None, "scoring_func": None},
}
"""By family, the values that its class carries out; None for all of them."""

_WINDOWS = ("mixtral", "mistral", "qwen2", "qwen2_moe", "qwen3_moe")
"""Families whose attention can be held to a window."""
_BY_BLOCK = ("qwen2", "qwen2_moe")
"""Families that read for each block if it is."""


def refuse_unread(config: Any, where: str) -> None:
    """Hold a configuration to what the family's class carries out.

    Args:
        config: Of transformers.
        where: The file, or the model.

    Raises:
        UserError: a field asks for another model; it is named.
    """
    model_type = str(config.model_type)
    if getattr(config, "is_heterogeneous", False) and config.to_dict().get("per_layer_config"):
        # Reading the fields that differ would raise.
        raise _another(where, model_type, "per_layer_config", "all blocks are alike")
    table = {**_UNREAD, **_READ.get(model_type, {})}
    for field, values in table.items():
        value = getattr(config, field, None)
        if value is None or values is None or value in values:
            continue
        raise _another(where, model_type, f"{field} {value!r}", _only(values))
    for field, value, only in (*_attention(config), *_positions(config), *_code(config)):
        raise _another(where, model_type, f"{field} {value!r}", only)


def _another(where: str, model_type: str, what: str, only: str) -> UserError:
    return UserError(
        f"{where}: {what} is nothing that {model_type} models run with here ({only}), and without "
        "it another model than this one would be evaluated; take one that does without."
    )


def _only(values: Values) -> str:
    told = " or ".join(repr(value) for value in values)
    return f"only {told} is" if told else "it reads no such field"


Fault = tuple[str, object, str]
"""A field, its value, and what would be carried out."""


def _attention(config: Any) -> Iterator[Fault]:
    """Windows of attention that would be left out."""
    model_type = config.model_type
    window, used = getattr(config, "sliding_window", None), getattr(config, "use_sliding_window", 1)
    longest = getattr(config, "max_position_embeddings", None)
    bites = bool(window) and bool(used) and (longest is None or window < longest)
    if bites and model_type not in _WINDOWS:
        yield "sliding_window", window, "its attention has no window"
    if model_type == "qwen3_moe" and bites and getattr(config, "max_window_layers", None):
        yield "max_window_layers", config.max_window_layers, "only 0 is, where a window is used"
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return
    if model_type in _BY_BLOCK:
        if set(kinds) - {"full_attention", "sliding_attention"}:
            yield "layer_types", kinds, "only full_attention and sliding_attention are"
        if len(kinds) != config.num_hidden_layers:
            yield "layer_types", kinds, f"{config.num_hidden_layers} blocks need one entry each"
        return
    kind = "sliding_attention" if bites and model_type in _WINDOWS else "full_attention"
    if set(kinds) - {kind}:
        yield "layer_types", kinds, f"only {kind} in every block is"


def _positions(config: Any) -> Iterator[Fault]:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind != "default" and kind not in ROPE_INIT_FUNCTIONS:
        yield "rope_scaling of type", kind, f"only {', '.join(sorted(ROPE_INIT_FUNCTIONS))} are"
    if kind == "default" and rope.get("partial_rotary_factor") not in (None, 1):
        yield "partial_rotary_factor", rope["partial_rotary_factor"], _only((1,))


def _code(config: Any) -> Iterator[Fault]:
    """Classes of other names than the one that would run; code in a folder is never run."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names: Any = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    ours = str(names.get(config.model_type, "DeepseekForCausalLM"))
    named = getattr(config, "architectures", None)
    if named and ours not in named:
        yield "architectures", named, f"only {ours} is"
    code = (getattr(config, "auto_map", None) or {}).get("AutoModelForCausalLM")
    if code is not None and str(code).rpartition(".")[2] != ours:
        yield "auto_map", code, f"only {ours} is, and code in a folder is never run"
