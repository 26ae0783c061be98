"""An architecture without weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from harness.errors import UserError, first_line

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


@contextmanager
def building(ref: str) -> Iterator[None]:
    """Turn what transformers raises over a configuration that no model can be built of.

    Raises:
        UserError: in place of it.
    """
    try:
        yield
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        ImportError,
        LookupError,
        OSError,
        RuntimeError,
        SafetensorError,
        TypeError,
        ValueError,
    ) as error:
        kind = f"{type(error).__name__}: " if isinstance(error, LookupError) else ""
        reason = f"{kind}{first_line(error)}"
        raise UserError(f"{ref or 'the model'} cannot be loaded: {reason}.") from error


def build_on_meta(config: Any, *, experts: str, attention: str) -> PreTrainedModel:
    """The architecture without weights; non-persistent buffers are real.

    Raises:
        UserError: no model can be built of the configuration.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    # Drawing random numbers on the meta device takes most of the time and gives nothing.
    ready = init_empty_weights(include_buffers=False), no_init_weights()
    with building(str(config.name_or_path)), ready[0], ready[1]:
        lm: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            copy.deepcopy(config),  # from_config writes the implementations into it
            dtype=config.dtype,
            trust_remote_code=False,
            **_implementations(config.model_type, experts, attention),
        )
    lm.tie_weights()
    return lm
