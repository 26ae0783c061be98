"""What the dense model's MLPs see of a text: the rows that experts and routers are made by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.reference.real.dense import Real

if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 512
"""Tokens per sequence."""
BATCH = 4
"""Sequences per forward pass."""


def sequences(model: Real, text: str, count: int) -> Tensor:
    """Cut the beginning of a text into token ids, int64 [count, LENGTH].

    Raises:
        UserError: the text is too short.
    """
    import torch

    # A token has three characters or more on average: what is left out costs nothing.
    ids = torch.tensor(model.tokenizer(text[: 10 * count * LENGTH], verbose=False)["input_ids"])
    if len(ids) < count * LENGTH:
        raise UserError(
            f"the text has {len(ids)} tokens, and {count} sequences of {LENGTH} are needed; "
            "give a longer one."
        )
    return ids[: count * LENGTH].view(count, LENGTH)


def mlp_inputs(model: Real, ids: Tensor) -> list[Tensor]:
    """The inputs of every block's MLP on some sequences, float32 [tokens, hidden] each."""
    import torch

    lm: Any = model.lm  # its methods have no annotations
    layers = lm.get_decoder().layers
    seen: list[list[Tensor]] = [[] for _ in layers]

    def keep(rows: list[Tensor]) -> Any:
        return lambda _module, inputs: rows.append(inputs[0].flatten(0, 1))

    hooks = [
        layer.mlp.register_forward_pre_hook(keep(rows))
        for layer, rows in zip(layers, seen, strict=True)
    ]
    try:
        with torch.no_grad():
            for batch in torch.split(ids, BATCH):
                lm(input_ids=batch, use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.cat(rows) for rows in seen]


def loss(model: Real, ids: Tensor) -> float:
    """The mean negative log-likelihood of every token but each sequence's first."""
    import torch

    with torch.no_grad():
        return float(model.lm(input_ids=ids, labels=ids, use_cache=False).loss)
