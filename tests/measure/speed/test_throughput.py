from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.data import DataRoot
from harness.errors import UserError
from harness.measure.speed import throughput
from harness.measure.speed.clock import Clock, Span
from harness.measure.speed.throughput import Prompts, instructions, measure_throughput
from harness.model.files.opening import open_model

Build = Callable[..., PreTrainedModel]


def prompts(*lengths: int) -> Prompts:
    generator = torch.Generator().manual_seed(0)
    rows = (torch.randint(61, (length,), generator=generator) for length in lengths)
    return Prompts(tuple(rows), "made up")


def test_exactly_so_many_tokens_though_the_end_comes(
    tiny: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny("mixtral")
    lm.generation_config.eos_token_id = list(range(40))  # likely chosen, were it not banned
    made: list[Tensor] = []
    kind: Any = type(lm)
    generate = kind.generate

    def kept(self: PreTrainedModel, *args: object, **kwargs: object) -> Tensor:
        made.append(generate(self, *args, **kwargs))
        return made[-1]

    monkeypatch.setattr(type(lm), "generate", kept)
    measured = measure_throughput(lm, lm, prompts(5, 9), new_tokens=7)
    assert [row.shape[1] for row in made[2:]] == [12, 12, 16, 16]
    assert all((row[0, -7:] >= 40).all() for row in made[2:])
    assert (measured.prompts, measured.prompt_tokens, measured.new_tokens) == (2, 14, 7)
    assert measured.low <= measured.speedup <= measured.high
    assert (measured.note, measured.joules_per_token) == (None, None)


def test_totals_over_totals_in_turn(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only a generation moves: one second by the model, three by the baseline."""
    now, order = 0.0, ""
    lm, baseline = tiny("mixtral"), tiny("mixtral")

    def generate(which: PreTrainedModel, prompt: Tensor, new: int) -> None:
        nonlocal now, order
        now += len(prompt) * (1 if which is lm else 3)
        order += "m" if which is lm else "b"

    monkeypatch.setattr(throughput, "_generate", generate)
    monkeypatch.setattr(Clock, "now", lambda self: Span(now, now))
    measured = measure_throughput(lm, baseline, prompts(1, 2, 7), new_tokens=5)
    assert order == "mb" + "mb" + "bm" + "mb"
    assert measured.seconds == [1, 2, 7]
    assert measured.tokens_per_second == 1.5
    assert measured.baseline_tokens_per_second == 0.5
    assert (measured.low, measured.speedup, measured.high) == (3, 3, 3)


def test_a_short_model_makes_fewer_tokens_and_says_so(tiny: Build) -> None:
    lm = tiny("mixtral")  # takes 64 tokens
    measured = measure_throughput(lm, lm, prompts(60, 3), new_tokens=10)
    assert measured.new_tokens == 4
    assert measured.note == "4 new tokens, not 10: the model takes no more."
    with pytest.raises(UserError, match="has 64"):
        measure_throughput(lm, lm, prompts(64, 3), new_tokens=1)


def test_a_reference_model_is_asked_its_own_instructions() -> None:
    model = open_model("reference/mixtral")
    asked = instructions(model, 6, data=DataRoot(None))
    texts = [str(model.tokenizer.decode(row)) for row in asked.ids]
    assert len(set(texts)) == 6
    # The prompt holds the question and its reference answer, and no end.
    assert all(text.partition("Answer :")[2].strip() for text in texts)
    assert all(row[-1] != model.tokenizer.eos_token_id for row in asked.ids)
    again = instructions(model, 6, data=DataRoot(None))
    assert again.sha256 == asked.sha256
    assert Prompts.random(2, 61).sha256 != Prompts.random(2, 61, seed=1).sha256
