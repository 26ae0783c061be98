from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from harness.errors import UserError
from harness.measure.speed.clock import Span
from harness.measure.speed.compared import measure_speed
from harness.measure.speed.runtime import Generation

Build = Callable[..., PreTrainedModel]

FAMILIES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v2")


def tokens(count: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(61, (batch, count), generator=generator)  # [B, T]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_gives_the_logits_of_the_whole_sequence(
    compressed: Build, family: str, attention: str
) -> None:
    lm = compressed(family, attn_implementation=attention)
    ids = tokens(20, batch=2)
    generation = Generation(lm, ids, 12)
    with torch.no_grad():
        whole = lm(ids, use_cache=False).logits[:, 11:]  # [2, 9, V]
        alone = lm(ids[:, -1:], use_cache=False).logits
    assert (whole[:, -1:] - alone).abs().max() > 0.1  # a lost cache would show
    for _ in range(2):  # the cache is used again
        assert generation.cache.get_seq_length() in (0, 20)
        steps = torch.stack(list(generation.logits()), dim=1)
        torch.testing.assert_close(steps, whole, rtol=1e-4, atol=1e-4)


def test_every_repetition_and_setting_is_recorded(tiny: Build, compressed: Build) -> None:
    speed = measure_speed(
        compressed("mixtral"), tiny("mixtral"), length=24, new_tokens=5, repetitions=3, batch=2
    )
    for timing in (speed.prefill, speed.decode):
        lists = (timing.seconds, timing.cpu_seconds)
        baseline = (timing.baseline_seconds, timing.baseline_cpu_seconds)
        assert all(len(values) == 3 and min(values) > 0 for values in (*lists, *baseline))
        assert timing.low <= timing.speedup <= timing.high
    assert (speed.length, speed.new_tokens, speed.batch, speed.note) == (24, 5, 2, None)
    assert (speed.cache, speed.device, speed.dtype) == ("StaticCache", "cpu", "float32")
    assert (speed.experts_implementation, speed.attention_implementation) == ("grouped_mm", "sdpa")
    assert speed.threads == torch.get_num_threads()


def test_the_ratio_is_baseline_over_compressed(
    tiny: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that counts decoder layers: 16 against 1 is 16 times, whatever the machine does."""
    deep, flat = (tiny("olmoe", config={"num_hidden_layers": n}) for n in (16, 1))
    ticks = 0

    def tick(*_: object) -> None:
        nonlocal ticks
        ticks += 1

    for lm in (deep, flat):
        for layer in lm.model.layers:
            layer.register_forward_hook(tick)
    monkeypatch.setattr(time, "perf_counter", lambda: float(ticks))
    monkeypatch.setattr(time, "process_time", lambda: float(ticks))
    speed = measure_speed(flat, deep, length=32, new_tokens=8, repetitions=3)
    for timing in (speed.prefill, speed.decode):
        assert timing.seconds == [1.0] * 3
        assert timing.baseline_cpu_seconds == [16.0] * 3
        assert (timing.speedup, timing.low, timing.high) == (16.0, 16.0, 16.0)


def test_a_model_against_itself(tiny: Build) -> None:
    lm = tiny("mixtral")
    timing = measure_speed(lm, lm, length=16, new_tokens=3, repetitions=3).decode
    assert timing.seconds != timing.baseline_seconds  # measured twice, not copied


def test_a_short_model_is_prefilled_less_and_says_so(tiny: Build) -> None:
    lm = tiny("mixtral")  # takes 64 tokens
    speed = measure_speed(lm, lm, length=100, new_tokens=4, repetitions=3)
    assert speed.length == 60
    assert speed.note == "prefill of 60 tokens, not 100: the model takes no more."
    with pytest.raises(UserError, match="lower new_tokens to at most 63"):
        measure_speed(lm, lm, length=100, new_tokens=64, repetitions=3)


def test_a_baseline_that_ran_otherwise_is_noted(tiny: Build) -> None:
    lm, other = tiny("mixtral"), tiny("mixtral", attn_implementation="eager")
    speed = measure_speed(lm, other, length=8, new_tokens=2, repetitions=3)
    assert speed.note == "the baseline ran with attention_implementation = eager."


def test_the_order_alternates(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def run(self: Generation) -> tuple[Span, Span]:
        order.append("compressed" if self.lm is lm else "baseline")
        return Span(1.0, 1.0), Span(1.0, 1.0)

    monkeypatch.setattr(Generation, "run", run)
    lm = tiny("mixtral")
    measure_speed(lm, tiny("mixtral"), length=8, new_tokens=2, repetitions=3)
    assert order == ["compressed", "baseline"] * 2 + ["baseline", "compressed"] + [
        "compressed",
        "baseline",
    ]


def test_deterministic_mode_is_left_and_restored(
    tiny: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def run(self: Generation) -> tuple[Span, Span]:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return Span(1.0, 1.0), Span(1.0, 1.0)

    monkeypatch.setattr(Generation, "run", run)
    lm = tiny("mixtral")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        measure_speed(lm, lm, length=8, new_tokens=2, repetitions=3)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(before)
    assert set(seen) == {False}
