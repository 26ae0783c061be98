from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.measure.nvml import energy
from harness.measure.speed import graph as captured
from harness.measure.speed.clock import Span, run_of
from harness.measure.speed.compared import measure_speed, measure_speeds
from harness.measure.speed.graph import Captured, NotCaptured
from harness.measure.speed.runtime import Generation, Runtime
from harness.measure.speed.stock_runtimes import (
    ExpertLoop,
    Generate,
    experts_implementation,
    stock_runtimes,
)

Build = Callable[..., PreTrainedModel]

FAMILIES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v2")


def tokens(count: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(61, (batch, count), generator=generator)  # [B, T]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_step_that_is_captured_gives_the_logits_of_our_runtime(
    compressed: Build, family: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is captured runs here without a graph: tokens, positions and mask are its own."""

    def no_graph(step: Callable[[], Tensor], rewind: Callable[[], None]) -> Callable[[], Tensor]:
        rewind()
        step()  # as a warm-up would
        rewind()
        return step

    monkeypatch.setattr(captured, "capture", no_graph)
    lm = compressed(family, attn_implementation=attention)
    ids = tokens(20, batch=2)
    expected = torch.stack(list(Generation(lm, ids, 12).logits()))
    replayed = Captured(lm, ids, 12)
    for _ in range(2):  # the cache is used again
        steps = torch.stack([logits.clone() for logits in replayed.logits()])
        torch.testing.assert_close(steps, expected, rtol=1e-4, atol=1e-4)


def test_without_cuda_there_is_no_graph(tiny: Build) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(NotCaptured, match="no CUDA device"):
        Captured(tiny("mixtral"), tokens(8), 4)
    with pytest.raises(NotCaptured, match="the compressed model: there is no CUDA device"):
        measure_speed(
            tiny("mixtral"), tiny("mixtral"), length=8, new_tokens=2, repetitions=3, graph=True
        )


def test_an_attention_without_static_masks_is_not_captured(tiny: Build) -> None:
    lm = tiny("mixtral")
    lm.config._attn_implementation = "flash_attention_2"
    with pytest.raises(NotCaptured, match="flash_attention_2 takes no mask"):
        Captured(lm, tokens(8), 4)


@pytest.mark.parametrize("way", [ExpertLoop, Generate])
@pytest.mark.parametrize("family", FAMILIES)
def test_stock_paths_read_the_given_tokens(
    tiny: Build, family: str, way: type[Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny(family)
    lm.generation_config.eos_token_id = 3  # would end a generation, were it not endless
    ids = tokens(14, batch=2)
    ids[:, 10] = 3
    seen: list[Tensor] = []
    forward = type(lm).forward

    def watched(self: PreTrainedModel, *args: object, **kwargs: object) -> object:
        seen.append(kwargs["input_ids"])  # type: ignore[arg-type]
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(lm), "forward", watched)
    marks: list[int] = []
    with torch.no_grad():
        way(lm, ids, 8).play(lambda: marks.append(len(seen)))
    assert marks == list(range(1, 8))  # after the prefill and after each of six tokens
    assert torch.equal(torch.cat(seen, 1), ids)
    assert lm.generation_config.eos_token_id == 3


def test_the_loop_is_a_loop_and_is_left_again(tiny: Build) -> None:
    lm = tiny("mixtral")
    experts = lm.model.layers[0].mlp.experts
    with experts_implementation(lm, "eager"):
        assert experts.config._experts_implementation == "eager"
        assert ExpertLoop(lm, tokens(8), 4).experts_implementation == "eager"
    assert lm.config._experts_implementation == experts.config._experts_implementation
    assert lm.config._experts_implementation == "grouped_mm"
    assert stock_runtimes(lm) == (ExpertLoop, Generate)


def test_stock_paths_stand_beside_our_runtime(compressed: Build, tiny: Build) -> None:
    [speed, wide] = measure_speeds(
        compressed("mixtral"),
        tiny("mixtral"),
        length=24,
        new_tokens=3,
        repetitions=3,
        batches=(1, 3),
        stock=True,
    )
    assert (speed.batch, wide.batch, speed.runtime) == (1, 3, "eager")
    loop, generate = speed.stock
    assert (loop.path, loop.experts_implementation, loop.cache) == (
        "expert loop",
        "eager",
        "DynamicCache",
    )
    assert (generate.path, generate.experts_implementation) == ("generate()", "grouped_mm")
    for way in speed.stock:
        # The compressed model's seconds are of the same path, the ratio over it of our runtime.
        assert way.decode.seconds != speed.decode.seconds
        assert way.over_decode.low <= way.over_decode.speedup <= way.over_decode.high
    fastest = speed.fastest_stock
    assert fastest is not None
    assert fastest.decode.baseline_seconds in [way.decode.baseline_seconds for way in speed.stock]
    assert speed.roofline is not None
    assert wide.roofline is not None
    assert wide.roofline.bytes_per_step > speed.roofline.bytes_per_step
    assert speed.decode.joules is None  # nothing measures it on a CPU


def test_energy_of_decoding_is_the_mean_over_its_tokens() -> None:
    marks = [Span(0.0, 0.0, 0.0), Span(2.0, 1.0, 50.0), Span(3.0, 1.5, 50.0), Span(6.0, 2.0, 58.0)]
    prefill, decode = run_of(marks)
    assert prefill == Span(2.0, 1.0, 50.0)
    assert decode == Span(2.0, 0.5, 4.0)
    assert all((end - start).seconds > 0 for start, end in pairwise(marks))
    with energy("cpu") as joules:
        assert joules is None
