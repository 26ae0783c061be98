"""An architecture without weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _implementations(model_type: str, experts: str, attention: str) -> dict[str, str]:
    """Arguments for transformers, which refuses an experts implementation for dense models."""
    from harness.model.families.family import FAMILIES

    arguments = {"attn_implementation": attention}
    return (
        arguments
        if FAMILIES[model_type].dense
        else {**arguments, "experts_implementation": experts}
    )


def build_on_meta(config: Any, *, experts: str, attention: str) -> PreTrainedModel:
    """The architecture without weights; non-persistent buffers are real."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    # Drawing random numbers on the meta device takes most of the time and gives nothing.
    with init_empty_weights(include_buffers=False), no_init_weights():
        lm: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            copy.deepcopy(config),  # from_config writes the implementations into it
            dtype=config.dtype,
            trust_remote_code=False,
            **_implementations(config.model_type, experts, attention),
        )
    lm.tie_weights()
    return lm
