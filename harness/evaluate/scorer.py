"""The model as lm-eval sees it: stock `HFLM`, with a faster way to the same log-likelihoods.

`HFLM` runs every request as a padded sequence of its own and projects every position onto the
vocabulary. `PrefixLM` changes only how token log-likelihoods are computed: requests that share a
prefix stand in one row (`harness.evaluate.prefix_rows`), nothing is padded, and only positions that
predict a scored token reach the LM head. Encoding, truncation, prompts and metrics remain
lm-eval's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harness.errors import UserError
from harness.evaluate.prefix_rows import PrefixRow, prefix_rows

Request = tuple[Any, list[int], list[int]]
"""A request of lm-eval to a model: the two strings, and their token ids."""
OnRequests = Callable[[int, int], None]
"""Called with how many requests are done, and of how many."""

SHAREABLE = frozenset(
    {"mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v2", "deepseek"}
    | {"llama", "mistral", "qwen2"}
)
"""Families whose tokens mix through masked attention alone, each tested against stock `HFLM`."""

TOKENS_PER_SEQUENCE = 32
"""A row holds this many tokens per sequence of the batch size: 512 for 16. Larger rows cost
more attention between sequences that do not see each other, smaller ones more calls."""


class PrefixLM(HFLM):  # type: ignore[misc]
    """`HFLM` around a model object and its tokenizer, in fp32 softmax.

    Args:
        lm: On its device, in its dtype.
        tokenizer: Copied, never changed.
        batch_size: Sequences per forward pass where requests share no rows; a forward pass
            over shared rows has `TOKENS_PER_SEQUENCE` tokens for each, more for longer sequences.
        progress: Told about requests done.
        shared: False computes everything as stock `HFLM` does.

    Raises:
        UserError: the tokenizer has neither a beginning- nor an end-of-sequence token.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int = 16,
        progress: OnRequests | None = None,
        shared: bool = True,
    ) -> None:
        with _weights_as_they_are(lm):
            super().__init__(
                pretrained=lm,
                tokenizer=_with_padding(tokenizer),
                backend="causal",
                batch_size=batch_size,
                softmax_dtype="float32",
            )
        self.shared = shared
        self.truncated = 0
        """Requests cut on the left because they exceed the model's length."""
        self._progress = progress or (lambda _done, _of: None)
        self._encoded: dict[tuple[str, bool | None], list[int]] = {}

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **options: Any
    ) -> list[int]:
        """As `HFLM`, remembered: the choices of a question share its context."""
        if options:
            return list(super().tok_encode(string, add_special_tokens, **options))
        key = (string, add_special_tokens)
        if key not in self._encoded:
            self._encoded[key] = super().tok_encode(string, add_special_tokens)
        return self._encoded[key]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """As `HFLM`.

        Raises:
            UserError: no end-of-sequence token, or no room for the answer in the model's length.
        """
        if self.tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end-of-sequence token, which generation needs.")
        room = max(r.args[1].get("max_gen_toks", self.max_gen_toks) for r in requests)
        if room >= self.max_length:
            raise UserError(
                f"{requests[0].task_name} generates up to {room} tokens, which the model's "
                f"{self.max_length} positions do not hold; leave the task out for this model."
            )
        self._progress(0, len(requests))
        answers: list[str] = super().generate_until(requests, disable_tqdm)
        self._progress(len(requests), len(requests))
        return answers

    def _loglikelihood_tokens(
        self,
        requests: list[Request],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        self._encoded.clear()
        _check(requests, self.max_length)
        self._progress(0, len(requests))
        self.truncated += sum(len(c) + len(t) > self.max_length + 1 for _, c, t in requests)
        inputs = [tuple((c + t)[-(self.max_length + 1) :][:-1]) for _, c, t in requests]
        if not (self.shared and shareable(self.model, max(map(len, inputs)))):
            answers = super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
            return list(answers)
        targets = [target for _, _, target in requests]
        return self._shared_loglikelihoods(inputs, targets)

    def _shared_loglikelihoods(
        self, inputs: list[tuple[int, ...]], targets: list[list[int]]
    ) -> list[tuple[float, bool]]:
        answers: list[tuple[float, bool]] = [(float("nan"), False)] * len(inputs)
        done = 0
        for row in prefix_rows(inputs, TOKENS_PER_SEQUENCE * self.batch_size):
            numbers = [number for number, _ in row.paths]
            scored = score_row(self.model, row, [targets[number] for number in numbers])
            for number, answer in zip(numbers, scored, strict=True):
                answers[number] = answer
            done += len(numbers)
            self._progress(done, len(inputs))
        return answers


def _check(requests: Sequence[Request], max_length: int) -> None:
    for strings, _, target in requests:
        if not 0 < len(target) <= max_length:
            text = strings[1] if strings else ""
            raise UserError(
                f"the answer {text[:40]!r} is {len(target)} tokens long, and this model can score "
                f"between 1 and {max_length}; leave its task out for this model."
            )


def shareable(lm: PreTrainedModel, longest: int) -> bool:
    """True if shared rows are exact for this model on sequences of up to `longest` tokens.

    It is where a token sees others through masked attention alone, and where that depends on
    nothing but the mask: no window shorter than the sequence, no rotary embedding that changes
    with the longest sequence of the batch.
    """
    config = lm.config
    window = getattr(config, "sliding_window", None)
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in SHAREABLE
        and config._attn_implementation in ("sdpa", "eager")
        and not (window and longest > window)
        and rope.get("rope_type", "default") not in ("dynamic", "longrope")
    )


@torch.no_grad()
def score_row(
    lm: PreTrainedModel, row: PrefixRow, targets: Sequence[list[int]]
) -> list[tuple[float, bool]]:
    """Sum of the log-likelihoods of each path's last tokens, and whether all are the argmax.

    Args:
        lm: A causal model.
        row: Inputs.
        targets: Per path, what its last `len(target)` nodes are to predict.

    Returns:
        Natural log-likelihood (softmax in fp32, sum in fp64) and greediness, per path.
    """
    nodes = torch.cat([path[-len(t) :] for (_, path), t in zip(row.paths, targets, strict=True)])
    kept, index = torch.unique(nodes, return_inverse=True)  # int64 [k], [targets in all]
    logits = _logits(lm, row, kept)  # [k, vocabulary]
    wanted = torch.tensor([token for target in targets for token in target], device=logits.device)
    index = index.to(logits.device)
    scores = F.log_softmax(logits, dim=-1, dtype=torch.float32)
    hits = (scores.argmax(-1)[index] == wanted).tolist()
    values = scores[index, wanted].double().tolist()
    answers, start = [], 0
    for target in targets:
        end = start + len(target)
        answers.append((float(sum(values[start:end])), all(hits[start:end])))
        start = end
    return answers


def _logits(lm: PreTrainedModel, row: PrefixRow, kept: Tensor) -> Tensor:
    output = lm(
        input_ids=row.tokens[None].to(lm.device),
        position_ids=row.positions[None].to(lm.device),
        attention_mask=None if row.visible is None else _additive(row.visible, lm),
        use_cache=False,
        logits_to_keep=kept.to(lm.device),
    )
    logits: Tensor = output.logits[0]
    return logits


def _additive(visible: Tensor, lm: PreTrainedModel) -> Tensor:
    # Not boolean: eager attention adds whatever mask it is given to the scores, without a word.
    hidden = ~visible.to(lm.device)
    mask = torch.zeros(hidden.shape, dtype=lm.dtype, device=lm.device)  # [n, n]
    return mask.masked_fill_(hidden, torch.finfo(lm.dtype).min)[None, None]


@contextmanager
def _weights_as_they_are(lm: PreTrainedModel) -> Iterator[None]:
    """`HFLM` ties head and embedding where the configuration says so, whatever was loaded."""
    config = lm.config
    meant = getattr(config, "tie_word_embeddings", False)
    config.tie_word_embeddings = False
    try:
        yield
    finally:
        config.tie_word_embeddings = meant


def _with_padding(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy that has a padding token; which one does not matter, padding is never attended to.

    Left to itself lm-eval adds a new token, whose id the model's embedding does not have.
    """
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise UserError(
            "the tokenizer has neither a beginning- nor an end-of-sequence token; "
            "set `eos_token` in its tokenizer_config.json."
        )
    copied = copy.deepcopy(tokenizer)
    if copied.pad_token_id is None:
        names = (copied.unk_token, copied.eos_token, copied.bos_token)
        copied.pad_token = next(name for name in names if name is not None)
    return copied
