"""Runtimes that prefill and decode given tokens; ours is the same for every row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel, StaticCache

from harness.measure.nvml import Joules
from harness.measure.speed.clock import Clock, Run, run_of


def room_after(tokens: int, models: Sequence[PreTrainedModel]) -> int | None:
    """The tokens that every model still takes after so many; None where none has a limit."""
    limits = (getattr(lm.config, "max_position_embeddings", None) for lm in models)
    return min((limit - tokens for limit in limits if limit), default=None)


class Runtime(ABC):
    """One way for a model to go through the same tokens again and again.

    The tokens are given, not chosen by the model: the number of steps is fixed, none ends early,
    and two models do the same work.

    Args:
        lm: In evaluation mode.
        ids: int64 [batch, tokens], on any device.
        length: How many of the tokens are prefilled; the others are decoded one at a time.
        joules: Reads the energy used so far; None where nothing measures it.
    """

    name: ClassVar[str]
    runtime: ClassVar[Literal["eager", "graph"]] = "eager"

    def __init__(
        self, lm: PreTrainedModel, ids: Tensor, length: int, joules: Joules | None = None
    ) -> None:
        self.lm = lm
        self.ids = ids.to(lm.device)  # [B, L + N]
        self.length = length
        self._clock = Clock(lm, joules)

    @property
    @abstractmethod
    def cache_name(self) -> str:
        """The class of the cache."""

    @property
    def experts_implementation(self) -> str:
        """The implementation that transformers' own experts run with."""
        return str(getattr(self.lm.config, "_experts_implementation", None))

    @abstractmethod
    def play(self, mark: Callable[[], None]) -> None:
        """Go through the tokens once; `mark` after the prefill and after each decoded token."""

    def run(self) -> Run:
        """Time one run."""
        marks = [self._clock.now()]
        with torch.no_grad():
            self.play(lambda: marks.append(self._clock.now()))
        return run_of(marks)


class Generation(Runtime):
    """Our runtime, its steps run by Python.

    The cache is a static one of the full length, so that a step costs the same early and late; it
    is kept between runs.
    """

    name = "ours"

    def __init__(
        self, lm: PreTrainedModel, ids: Tensor, length: int, joules: Joules | None = None
    ) -> None:
        super().__init__(lm, ids, length, joules)
        self.cache = StaticCache(config=lm.config, max_cache_len=ids.shape[1])

    @property
    def cache_name(self) -> str:
        """The class of the cache."""
        return type(self.cache).__name__

    @property
    def cache_bytes(self) -> int:
        """Bytes of one position in all layers of all sequences, known after a run."""
        held = [getattr(one, n, None) for one in self.cache.layers for n in ("keys", "values")]
        tensors = (tensor for tensor in held if tensor is not None)
        return sum(tensor.nbytes // tensor.shape[-2] for tensor in tensors)

    def play(self, mark: Callable[[], None]) -> None:
        """Run all steps."""
        for _ in self.logits():
            mark()

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
