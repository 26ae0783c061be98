"""EEP's protocol: answers to instructions by `generate()`, prefill included.

Lu et al. 2024 (arXiv 2402.14800), as their code measures it: 50 instructions of Alpaca whose
prompt includes the reference answer, batch 1, greedy, exactly 512 new tokens with EOS banned,
tokens per second = all tokens over all time.

Deviations: one short unmeasured run of each model first; devices are waited for at the end of each
prompt; the compressed model and the baseline take turns, prompt by prompt. Which tokens "all" are
is not said; here they are the new ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.calibration.corpora.catalogue import INSTRUCTIONS, OWN_INSTRUCTIONS
from harness.errors import UserError
from harness.intervals import total_speedup
from harness.measure.nvml import Joules, energy
from harness.measure.speed.clock import Clock, Span
from harness.measure.speed.runtime import room_after
from harness.measure.speed.semi_structured import semi_structured
from harness.records.record import Throughput

if TYPE_CHECKING:
    from harness.data import DataRoot
    from harness.model.view import MoEModel

LONGEST = 1024
"""Tokens of an instruction with its answer; longer ones are cut."""
RANDOM = 192
"""Tokens of a random prompt, for models without a tokenizer."""
WARM_UP = 4


@dataclass(frozen=True)
class Prompts:
    """The prompts that models answer.

    Attributes:
        ids: One int64 [tokens] per prompt, the reference answer included.
        source: The corpus, or what else they are.
    """

    ids: tuple[Tensor, ...]
    source: str

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor | None, eos: int | None, source: str) -> Prompts:
        """Rows of padded tokens, [prompts, length]; an EOS at the end is taken off."""
        valid = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        rows = [row[keep] for row, keep in zip(ids, valid, strict=True)]
        return cls(tuple(r[:-1] if len(r) > 1 and r[-1] == eos else r for r in rows), source)

    @classmethod
    def random(cls, prompts: int, vocabulary: int, *, seed: int = 0) -> Prompts:
        """Random tokens, where a model has no tokenizer."""
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(vocabulary, (prompts, RANDOM), generator=generator)  # [P, RANDOM]
        return cls(tuple(ids), f"{RANDOM} random tokens each: the model has no tokenizer")

    @property
    def sha256(self) -> str:
        """Hash of all token ids with their lengths."""
        digest = hashlib.sha256()
        for row in self.ids:
            digest.update(np.int64(len(row)).tobytes() + row.numpy().astype("<i8").tobytes())
        return digest.hexdigest()


def instructions(model: MoEModel, prompts: int, *, data: DataRoot) -> Prompts:
    """Alpaca's instructions with their answers; of a reference model, those it was trained on.

    Args:
        model: With a tokenizer.
        prompts: How many are drawn.
        data: Where data sets are read.

    Raises:
        UserError: the corpus cannot be read, or has too few instructions that fit.
    """
    from harness.calibration.corpora.draw import tokens
    from harness.reference import MODELS

    own = model.ref in MODELS
    name, length = (OWN_INSTRUCTIONS, None) if own else (INSTRUCTIONS, LONGEST)
    drawn = tokens(name, model.tokenizer, sequences=prompts, length=length, seed=0, data=data)
    end = model.tokenizer.eos_token_id
    return Prompts.of(drawn.input_ids, drawn.attention_mask, end, f"{name}, drawn with seed 0")


def measure_throughput(
    model: PreTrainedModel,
    baseline: PreTrainedModel,
    prompts: Prompts,
    *,
    new_tokens: int = 512,
    seed: int = 0,
) -> Throughput:
    """Generate for every prompt with both models in turn.

    Args:
        model: Compressed, on its device, in evaluation mode.
        baseline: What it was compressed from.
        prompts: At least two.
        new_tokens: Per prompt; fewer where a model takes fewer, and then said in `note`.
        seed: Of the bootstrap.

    Raises:
        UserError: a model has no room for a new token after the longest prompt.
    """
    new = _fitting(new_tokens, prompts, (model, baseline))
    with energy(model.device.type) as joules, semi_structured(model) as sparse:
        pairs = _spans((model, baseline), prompts, new, joules)
    seconds = np.array([[span.seconds for span in pair] for pair in pairs]).T  # [2, P]
    ours, theirs = seconds.tolist()
    gain = total_speedup(ours, theirs, seed=seed)
    shortened = f"{new} new tokens, not {new_tokens}: the model takes no more."
    notes = [shortened if new < new_tokens else None, sparse]
    total = len(pairs) * new
    return Throughput(
        prompts=len(pairs),
        prompt_tokens=sum(len(row) for row in prompts.ids),
        new_tokens=new,
        tokens_per_second=total / float(seconds[0].sum()),
        baseline_tokens_per_second=total / float(seconds[1].sum()),
        speedup=gain.ratio,
        low=gain.low,
        high=gain.high,
        seconds=ours,
        baseline_seconds=theirs,
        joules_per_token=_joules([pair[0] for pair in pairs], total),
        baseline_joules_per_token=_joules([pair[1] for pair in pairs], total),
        data=f"{prompts.source}; sha256 {prompts.sha256}",
        note=" ".join(filter(None, notes)) or None,
    )


def _fitting(new: int, prompts: Prompts, models: Sequence[PreTrainedModel]) -> int:
    longest = max(len(row) for row in prompts.ids)
    room = room_after(longest, models)
    if room is None:
        return new
    if room < 1:
        raise UserError(
            f"the model takes {room + longest} tokens, and the longest instruction with its answer "
            f'has {longest}: take "instructions" out of measure.'
        )
    return min(new, room)


def _spans(
    models: tuple[PreTrainedModel, PreTrainedModel],
    prompts: Prompts,
    new: int,
    joules: Joules | None,
) -> list[tuple[Span, Span]]:
    """For each prompt the compressed model's span and the baseline's; who is first alternates."""
    clocks = [Clock(lm, joules) for lm in models]
    for lm in models:
        _generate(lm, prompts.ids[0], min(new, WARM_UP))
    pairs = []
    for number, prompt in enumerate(prompts.ids):
        spans: dict[int, Span] = {}
        for place in (0, 1) if number % 2 == 0 else (1, 0):
            start = clocks[place].now()
            _generate(models[place], prompt, new)
            spans[place] = clocks[place].now() - start
        pairs.append((spans[0], spans[1]))
    return pairs


def _generate(lm: PreTrainedModel, prompt: Tensor, new: int) -> None:
    ids = prompt.unsqueeze(0).to(lm.device)  # [1, tokens]
    lm.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        min_new_tokens=new,  # bans EOS
        max_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
    )


def _joules(spans: Sequence[Span], tokens: int) -> float | None:
    known = [span.joules for span in spans if span.joules is not None]
    return sum(known) / tokens if len(known) == len(spans) else None
