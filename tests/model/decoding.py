"""Logits of a model, computed in one pass or token by token from a cache."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.model.view import MoEModel


def logits(model: MoEModel, ids: Tensor) -> Tensor:
    """[batch, length, vocabulary]."""
    with torch.no_grad():
        return model.lm(ids).logits  # type: ignore[no-any-return]


def check_cached(model: MoEModel, ids: Tensor) -> None:
    """Token by token from the cache, the logits are those of one pass without a cache."""
    cache, steps = None, []
    with torch.no_grad():
        whole = model.lm(ids, use_cache=False).logits
        for position in range(ids.shape[1]):
            token = ids[:, position : position + 1]
            out = model.lm(token, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            steps.append(out.logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=2e-5, rtol=0)
