"""The share of the routers' choices that is computed, where experts are skipped or removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from harness.model.layers.experts import Experts


@contextmanager
def measured_shares(lm: PreTrainedModel) -> Iterator[None]:
    """Count the choices computed by everything `lm` runs meanwhile, and keep each block's share.

    Without such experts, or without a token, nothing changes.
    """
    counts = {experts: [0, 0] for experts in _partial(lm)}

    def count(experts: nn.Module, args: Any) -> None:
        if isinstance(experts, Experts):
            computed, _ = experts.choose(*args[1:])
            counts[experts][0] += int(computed.sum())
            counts[experts][1] += computed.numel()

    handles = [experts.register_forward_pre_hook(count) for experts in counts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    for experts, (computed, choices) in counts.items():
        if choices:
            experts.share = computed / choices


def computed_share(lm: PreTrainedModel) -> float | None:
    """Mean over the blocks that do not compute every choice; None where there is no such block."""
    shares = [experts.share for experts in _partial(lm)]
    return sum(shares) / len(shares) if shares else None


def _partial(lm: PreTrainedModel) -> list[Experts]:
    return [m for m in lm.modules() if isinstance(m, Experts) and m.partial]
