"""Fields of a configuration that are about training, or about the form of an answer.

They stand in what people publish: a fine-tuned Mixtral asks for its router's logits, and some that
were trained with checkpoints of gradients ask for no cache. No number may depend on them, so a
model is built and run with each as it is in a model that nobody has trained. What an artifact or an
export is given is what its owner wrote.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

SWITCHES: Mapping[str, object] = {
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "attn_pdrop": 0.0,
    "chunk_size_feed_forward": 0,
    "classifier_dropout": None,
    "dropout": 0.0,
    "embd_pdrop": 0.0,
    "gradient_checkpointing": False,
    "hidden_dropout": 0.0,
    "label_smoothing": 0.0,
    "loss_type": None,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_router_logits": False,
    "pretraining_tp": 1,
    "problem_type": None,
    "pruned_heads": {},
    "resid_pdrop": 0.0,
    "return_dict": True,
    "router_aux_loss_coef": 0.0,
    "router_jitter_noise": 0.0,
    "torchscript": False,
    "use_cache": True,
}
"""The fields, each with the value that it has here."""

_ANSWERS: Mapping[str, object] = {
    "output_attentions": False,
    "output_hidden_states": False,
    "output_logits": False,
    "output_scores": False,
    "return_dict_in_generate": False,
    "use_cache": True,
}
"""The same of settings of generation."""


def switch_off(config: Any) -> dict[str, Any]:
    """Set the fields that a configuration has.

    Args:
        config: Of transformers; changed in place.

    Returns:
        What was changed, as its owner wrote it.
    """
    stated = {
        name: getattr(config, name)
        for name, value in SWITCHES.items()
        if hasattr(config, name) and getattr(config, name) != value
    }
    for name in stated:
        setattr(config, name, copy.copy(SWITCHES[name]))
    return stated


def switch_off_answers(generation: Any) -> None:
    """Set the fields of a model's settings of generation; changed in place."""
    for name, value in _ANSWERS.items():
        if getattr(generation, name, None) not in (None, value):
            setattr(generation, name, value)


def as_stated(config: Any, stated: Mapping[str, Any]) -> Any:
    """A copy of a configuration with what its owner wrote; to be written, not to be run."""
    whole = copy.deepcopy(config)
    whole._attn_implementation = "eager"  # in no file; others refuse to say `output_attentions`
    for name, value in stated.items():
        setattr(whole, name, copy.copy(value))
    return whole
