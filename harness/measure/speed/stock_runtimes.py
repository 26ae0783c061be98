"""transformers' own ways to decode, which our runtime stands beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from harness.measure.moe_layers import moe_layers
from harness.measure.speed.runtime import Runtime
from harness.model.layers.experts import Experts

LOOP = "eager"
"""The name that transformers gives a Python loop over the experts that tokens have chosen."""


class ExpertLoop(Runtime):
    """Step by step with a growing cache and a loop over experts: what the papers measured."""

    name = "expert loop"

    @property
    def experts_implementation(self) -> str:
        """The loop, which transformers calls eager."""
        return LOOP

    @property
    def cache_name(self) -> str:
        """The class of the cache."""
        return DynamicCache.__name__

    def play(self, mark: Callable[[], None]) -> None:
        """Run all steps."""
        cache = DynamicCache(config=self.lm.config)
        with experts_implementation(self.lm, LOOP):
            for start, end in pairwise((0, *range(self.length, self.ids.shape[1] + 1))):
                self.lm(
                    input_ids=self.ids[:, start:end],
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                mark()


class Generate(Runtime):
    """`generate()` as it comes: its own cache, and its own switch of the experts' implementation.

    Greedy; a logits processor puts the given token in the place of the chosen one.
    """

    name = "generate()"

    @property
    def experts_implementation(self) -> str:
        """On other devices than CPUs, generate() decodes grouped_mm as batched_mm."""
        own = super().experts_implementation
        switched = own == "grouped_mm" and self.lm.device.type != "cpu"
        return "grouped_mm, then batched_mm" if switched else own

    @property
    def cache_name(self) -> str:
        """The class of the cache."""
        return DynamicCache.__name__

    def play(self, mark: Callable[[], None]) -> None:
        """Generate all tokens; the processor is called after the prefill and after each step."""
        prompt = self.ids[:, : self.length]
        new = self.ids.shape[1] - self.length
        with endless(self.lm):
            self.lm.generate(  # type: ignore[operator]
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=new + 1,
                do_sample=False,
                logits_processor=LogitsProcessorList([_Given(self.ids, mark)]),
            )


class _Given(LogitsProcessor):
    def __init__(self, ids: Tensor, mark: Callable[[], None]) -> None:
        self._ids = ids
        self._mark = mark

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._mark()
        place = min(input_ids.shape[1], self._ids.shape[1] - 1)
        return torch.zeros_like(scores).scatter(1, self._ids[:, place : place + 1], 1.0)


@contextmanager
def endless(lm: PreTrainedModel) -> Iterator[None]:
    """No token ends a generation meanwhile."""
    config: Any = lm.generation_config
    before = config.eos_token_id, config.pad_token_id
    # A pad token of its own, or generate() takes the end's and says so every time.
    config.eos_token_id, config.pad_token_id = None, before[1] or 0
    try:
        yield
    finally:
        config.eos_token_id, config.pad_token_id = before


@contextmanager
def experts_implementation(lm: PreTrainedModel, name: str) -> Iterator[None]:
    """Another implementation of transformers' own experts meanwhile."""
    configs = {id(c): c for m in lm.modules() if (c := getattr(m, "config", None)) is not None}
    switched = [c for c in configs.values() if getattr(c, "_experts_implementation", None)]
    before = [config._experts_implementation for config in switched]
    for config in switched:
        config._experts_implementation = name
    try:
        yield
    finally:
        for config, old in zip(switched, before, strict=True):
            config._experts_implementation = old


def implementation(lm: PreTrainedModel) -> str:
    """The implementation of transformers' own experts as the model was opened."""
    return str(getattr(lm.config, "_experts_implementation", None))


def stock_runtimes(lm: PreTrainedModel) -> tuple[type[Runtime], ...]:
    """Transformers' own runtimes of a model: without experts, no loop over them."""
    return (ExpertLoop, Generate) if any(True for _ in moe_layers(lm)) else (Generate,)


def replaced(lm: PreTrainedModel) -> bool:
    """True if experts run in moebench's own module, in every runtime."""
    return any(isinstance(module, Experts) for module in lm.modules())
