"""Prefill and cached decoding of given tokens, step by step and timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor
from transformers import PreTrainedModel, StaticCache


@dataclass(frozen=True)
class Span:
    """Time between two marks."""

    seconds: float
    cpu_seconds: float
    """Of the whole process: all its threads together."""


class Generation:
    """One model going through the same tokens again and again.

    The tokens are given, not chosen by the model: the number of steps is fixed, none ends early,
    and two models do the same work. The cache is a static one of the full length, so that a step
    costs the same early and late; it is kept between runs.

    Args:
        lm: In evaluation mode.
        ids: int64 [batch, tokens], on any device.
        length: How many of the tokens are prefilled; the others are decoded one at a time.
    """

    def __init__(self, lm: PreTrainedModel, ids: Tensor, length: int) -> None:
        self.lm = lm
        self.ids = ids.to(lm.device)  # [B, L + N]
        self.length = length
        self.cache = StaticCache(config=lm.config, max_cache_len=ids.shape[1])
        self._cuda = {p.device for p in lm.parameters() if p.device.type == "cuda"}

    def logits(self) -> Iterator[Tensor]:
        """Logits [batch, vocabulary] after the prefill and after each decoded token."""
        self.cache.reset()  # type: ignore[no-untyped-call]
        ends = range(self.length, self.ids.shape[1] + 1)
        for start, end in pairwise((0, *ends)):
            with torch.no_grad():
                step = self.lm(
                    input_ids=self.ids[:, start:end],
                    past_key_values=self.cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
            yield step.logits[:, -1]

    def run(self) -> tuple[Span, Span]:
        """Time one run.

        Returns:
            The prefill, and the median decoding step.
        """
        marks = [self._mark()]
        for _ in self.logits():
            marks.append(self._mark())
        prefill, *steps = (
            Span(end.seconds - start.seconds, end.cpu_seconds - start.cpu_seconds)
            for start, end in pairwise(marks)
        )
        return prefill, Span(
            median(step.seconds for step in steps), median(step.cpu_seconds for step in steps)
        )

    def _mark(self) -> Span:
        """Both clocks, when the devices of the model have done all they were told."""
        for device in self._cuda:
            torch.cuda.synchronize(device)
        return Span(time.perf_counter(), time.process_time())
