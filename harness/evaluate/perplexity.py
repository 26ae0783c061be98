"""Perplexity on named texts: how each is joined, cut and averaged.

All of them tokenise the whole text in one call, with the special tokens the tokenizer adds by
itself (a beginning-of-sequence token stands once, at the start, if at all), cut it into windows
that do not overlap, drop the tail, and average the negative log-likelihood of every window's
tokens but the first. A tokenizer's length limit plays no part.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.data import DataRoot
from harness.errors import UserError, unknown
from harness.evaluate.texts import TEXTS, PerplexityText
from harness.records.record import PerplexityResult

__all__ = ["TEXTS", "PerplexityText", "perplexity"]

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOGITS_BYTES = 2**30
"""Logits of one forward pass at most, unless one window alone has more."""
CHUNK = 512
"""Positions upcast to fp32 at a time."""


def perplexity(
    lm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    *,
    data: DataRoot,
    first: int | None = None,
    batch_size: int = 8,
    progress: Callable[[str, int, int], None] | None = None,
) -> PerplexityResult:
    """A model's perplexity on one of `TEXTS`.

    Args:
        lm: A causal model, on its device and in its dtype.
        tokenizer: The model's own.
        name: The text.
        data: The source of the text.
        first: Only so many windows, from the beginning; None for all.
        batch_size: Windows per forward pass at most; fewer where their logits would take more
            than `LOGITS_BYTES`.
        progress: Told how many windows are done.

    Returns:
        exp of the mean, over windows, of the mean negative log-likelihood. Logits are upcast to
        fp32 before the loss, sums are fp64.

    Raises:
        UserError: an unknown text, missing or unreadable data, a text shorter than one
            window, a loss that is not finite, a perplexity too large for a number.
    """
    if name not in TEXTS:
        raise unknown("perplexity text", name, TEXTS)
    start, text = time.perf_counter(), TEXTS[name]
    limit = getattr(lm.config, "max_position_embeddings", None) or text.length
    length = min(text.length, limit)
    whole = windows(token_ids(text, tokenizer, data), length, text)
    ids = whole[:first]  # int64 [n, length]
    losses = _losses(lm, ids, text, batch_size, progress)  # float64 [n]
    notes = []
    if length < text.length:
        notes.append(f"windows of {length} tokens, the model's limit, not {text.length}")
    if len(ids) < len(whole):
        notes.append(f"only the first {len(ids)} of {len(whole)} windows")
    return PerplexityResult(
        text=name,
        value=_exp(losses.mean().item(), text),
        tokens=ids.shape[0] * (length - 1),
        windows=ids.shape[0],
        length=length,
        data=f"{text.hub_id} {text.config} {text.split} sha256:{_sha256(ids)}",
        seconds=time.perf_counter() - start,
        note="; ".join(notes) or None,
    )


def _exp(loss: float, text: PerplexityText) -> float:
    """The perplexity of a mean loss.

    Raises:
        UserError: it is too large for a number.
    """
    try:
        return math.exp(loss)
    except OverflowError:
        raise UserError(
            f"{text.name}: the mean loss is {loss:.0f}, whose exponential no number holds; the "
            f"model has broken weights."
        ) from None


def token_ids(text: PerplexityText, tokenizer: PreTrainedTokenizerBase, data: DataRoot) -> Tensor:
    """The whole text as int64 [tokens].

    Raises:
        UserError: missing or unreadable data, or rows without its field.
    """
    rows = data.rows(
        text.hub_id,
        text.config,
        text.split,
        files=text.files,
        limit=text.documents,
    )
    documents = [row.get(text.field) for row in rows]
    for number, document in enumerate(documents, 1):
        if not isinstance(document, str):
            raise UserError(
                f"row {number} of {text.hub_id}, split {text.split}, has no text in "
                f"{text.field!r}; {text.name} needs it there."
            )
    import torch

    encoded = tokenizer(
        text.join.join(str(document) for document in documents),
        split_special_tokens=text.split_special_tokens,
        verbose=False,
    )
    return torch.tensor(encoded["input_ids"], dtype=torch.long)


def windows(ids: Tensor, length: int, text: PerplexityText) -> Tensor:
    """Cut [tokens] into [windows, length], the tail dropped.

    Raises:
        UserError: not even one window.
    """
    count = ids.numel() // length
    if count == 0:
        raise UserError(
            f"{text.name}: the {text.split} split of {text.hub_id} has {ids.numel()} "
            f"tokens, less than one window of {length}; complete the data."
        )
    return ids[: count * length].view(count, length)[: text.windows]


def _losses(
    lm: PreTrainedModel,
    ids: Tensor,
    text: PerplexityText,
    batch_size: int,
    progress: Callable[[str, int, int], None] | None,
) -> Tensor:
    """Mean negative log-likelihood of each window, float64 [windows]."""
    import torch

    logits_bytes = ids.shape[1] * lm.config.vocab_size * lm.dtype.itemsize
    losses = []
    for batch in torch.split(ids, max(1, min(batch_size, LOGITS_BYTES // logits_bytes))):
        losses.append(_batch_losses(lm, batch.to(lm.device)).cpu())
        done = sum(map(len, losses))
        bad = losses[-1].isfinite().logical_not().nonzero().flatten().tolist()
        if bad:
            raise UserError(
                f"{text.name}: the loss of window {done - len(batch) + bad[0] + 1} of "
                f"{len(ids)} is {losses[-1][bad[0]].item()}; the model overflows in {lm.dtype} "
                f"or has broken weights."
            )
        if progress:
            progress(text.name, done, len(ids))
    return torch.cat(losses)


def _batch_losses(lm: PreTrainedModel, batch: Tensor) -> Tensor:
    import torch
    from torch.nn import functional

    with torch.no_grad():
        logits = lm(input_ids=batch, use_cache=False).logits[:, :-1]  # [b, length-1, vocabulary]
        totals = torch.zeros(len(batch), dtype=torch.float64, device=batch.device)
        for some, wanted in zip(
            torch.split(logits, CHUNK, 1), torch.split(batch[:, 1:], CHUNK, 1), strict=True
        ):
            loss = functional.cross_entropy(
                some.float().flatten(0, 1), wanted.flatten(), reduction="none"
            )
            totals += loss.view(wanted.shape).sum(1, dtype=torch.float64)
    return totals / (batch.shape[1] - 1)


def _sha256(ids: Tensor) -> str:
    return hashlib.sha256(ids.contiguous().numpy().tobytes()).hexdigest()
