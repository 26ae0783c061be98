"""Speed of a compressed model against its baseline, repetitions interleaved."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.errors import UserError
from harness.measure.nvml import Joules, energy
from harness.measure.speed.clock import Run
from harness.measure.speed.graph import Captured, NotCaptured
from harness.measure.speed.roofline import roofline
from harness.measure.speed.runtime import Generation, Runtime, room_after
from harness.measure.speed.semi_structured import semi_structured
from harness.measure.speed.stock_runtimes import implementation, replaced, stock_runtimes
from harness.measure.speed.timings import gain, timing
from harness.model.layers.packed import Packed
from harness.model.quantized import native
from harness.records.record import Speed, Stock

logger = logging.getLogger(__name__)

ModelPair = tuple[PreTrainedModel, PreTrainedModel]
"""The compressed model and the baseline."""


def measure_speeds(
    model: PreTrainedModel,
    baseline: PreTrainedModel,
    *,
    length: int,
    new_tokens: int,
    repetitions: int,
    batches: Sequence[int] = (1,),
    stock: bool = False,
    seed: int = 0,
) -> list[Speed]:
    """Speed for each batch in each runtime of the device; arguments as of `measure_speed`.

    On CUDA a step replayed as a graph comes before the same run by Python. Where one of the two
    models cannot be captured, there is no graph for either, and the note says why.
    """
    speeds = []
    for batch in batches:
        asked: dict[str, Any] = {
            "length": length,
            "new_tokens": new_tokens,
            "repetitions": repetitions,
            "batch": batch,
            "seed": seed,
        }
        remark = None
        if model.device.type == "cuda":
            try:
                speeds.append(measure_speed(model, baseline, graph=True, stock=stock, **asked))
            except NotCaptured as reason:
                remark = f"not captured in a CUDA graph: {reason}."
        first = not speeds or speeds[-1].batch != batch
        speed = measure_speed(model, baseline, stock=stock and first, **asked)
        notes = " ".join(filter(None, (speed.note, remark))) or None
        speeds.append(speed.model_copy(update={"note": notes}))
    return speeds


def measure_speed(
    model: PreTrainedModel,
    baseline: PreTrainedModel,
    *,
    length: int,
    new_tokens: int,
    repetitions: int,
    batch: int = 1,
    seed: int = 0,
    graph: bool = False,
    stock: bool = False,
) -> Speed:
    """Time prefill and decoding of both models on the same random tokens.

    All ways run once unmeasured. Then each repetition times all, one right after the other, in
    alternating order. `baseline is model` shows the noise of the machine.

    Nothing else should run meanwhile; see `harness.measure.exclusive`.

    Args:
        model: Compressed, on its device, in evaluation mode.
        baseline: What it was compressed from.
        length: Tokens of the prefill; fewer where a model takes fewer, and then said in `note`.
        new_tokens: Tokens decoded after it, one at a time.
        repetitions: Pairs of runs that are timed.
        batch: Sequences at once.
        seed: Of the tokens and of the bootstrap.
        graph: Replay decoding steps as a CUDA graph.
        stock: Time transformers' own runtimes too.

    Raises:
        UserError: a model has no room for a single token before the `new_tokens`.
        NotCaptured: `graph` was asked for and a model cannot be captured.
    """
    both = (model, baseline)
    prefilled = _prefill_length(length, new_tokens, both)
    ids = _ids(both, batch, prefilled + new_tokens, seed)
    with (
        _ordinary_kernels(),
        energy(model.device.type) as joules,
        semi_structured(model) as sparse,
    ):
        ours = _ours(both, ids, prefilled, joules, graph)
        theirs = _theirs(both, ids, prefilled, joules) if stock else []
        runs = _interleave([*ours, *theirs], repetitions)
        ceiling = roofline(model, ours[0], [run[1].seconds for run in runs[0]])
    return Speed(
        length=prefilled,
        new_tokens=new_tokens,
        batch=batch,
        prefill=timing(runs[0], runs[1], 0, seed),
        decode=timing(runs[0], runs[1], 1, seed),
        cache=ours[0].cache_name,
        threads=torch.get_num_threads(),
        note=_note(both, length, prefilled, sparse, stock),
        runtime=ours[0].runtime,
        stock=_stocks(theirs, runs, seed),
        roofline=ceiling,
        **_settings(model),
    )


def _ids(models: ModelPair, batch: int, tokens: int, seed: int) -> Tensor:
    """Random tokens that both models know, int64 [batch, tokens]."""
    vocabulary = min(lm.config.vocab_size for lm in models)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (batch, tokens), generator=generator)  # [B, T]


def _ours(
    models: ModelPair, ids: Tensor, length: int, joules: Joules | None, graph: bool
) -> tuple[Generation, Generation]:
    """Our runtime of the compressed model, then of the baseline."""
    kind = Captured if graph else Generation
    runtimes = []
    for lm, which in zip(models, ("compressed model", "baseline"), strict=True):
        try:
            runtimes.append(kind(lm, ids, length, joules))
        except NotCaptured as reason:
            raise NotCaptured(f"the {which}: {reason}") from reason
    return runtimes[0], runtimes[1]


def _theirs(models: ModelPair, ids: Tensor, length: int, joules: Joules | None) -> list[Runtime]:
    """The stock runtimes, each of the compressed model, then of the baseline."""
    kinds = stock_runtimes(models[1])
    return [kind(lm, ids, length, joules) for kind in kinds for lm in models]


def _prefill_length(length: int, new_tokens: int, models: Sequence[PreTrainedModel]) -> int:
    room = room_after(new_tokens, models)
    if room is None:
        return length
    if room < 1:
        raise UserError(
            f"the model takes {room + new_tokens} tokens, too few to decode new_tokens = "
            f"{new_tokens} after a prefill: lower new_tokens to at most {room + new_tokens - 1}."
        )
    return min(length, room)


@contextmanager
def _ordinary_kernels() -> Iterator[None]:
    """Leave torch's deterministic mode: it takes slower kernels and fills every new tensor."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def _interleave(runtimes: Sequence[Runtime], repetitions: int) -> list[list[Run]]:
    """The runs of each runtime, one per repetition, after one unmeasured run of each."""
    for runtime in runtimes:
        runtime.run()
    runs: list[list[Run]] = [[] for _ in runtimes]
    places = list(range(len(runtimes)))
    for repetition in range(repetitions):
        for place in places if repetition % 2 == 0 else reversed(places):
            runs[place].append(runtimes[place].run())
        logger.debug("repetition %d of %d", repetition + 1, repetitions)
    return runs


def _stocks(theirs: Sequence[Runtime], runs: Sequence[Sequence[Run]], seed: int) -> list[Stock]:
    """Every stock runtime, from the runs of our runtime and then theirs, in pairs of models."""
    return [
        _stock(theirs[place], runs[0], runs[2 + place], runs[3 + place], seed)
        for place in range(0, len(theirs), 2)
    ]


def _stock(
    runtime: Runtime, ours: Sequence[Run], theirs: Sequence[Run], baseline: Sequence[Run], seed: int
) -> Stock:
    """One stock runtime; `ours` are the compressed model's runs in our runtime."""
    return Stock(
        path=runtime.name,
        cache=runtime.cache_name,
        experts_implementation=runtime.experts_implementation,
        prefill=timing(theirs, baseline, 0, seed),
        decode=timing(theirs, baseline, 1, seed),
        over_prefill=gain(ours, baseline, 0, seed),
        over_decode=gain(ours, baseline, 1, seed),
    )


def _settings(lm: PreTrainedModel) -> dict[str, str]:
    """The settings of a model that its speed depends on, as a record has them."""
    return {
        "experts_implementation": implementation(lm),
        "attention_implementation": str(lm.config._attn_implementation),
        "dtype": str(lm.dtype).removeprefix("torch."),
        "device": str(lm.device),
    }


def _note(
    models: ModelPair, length: int, prefilled: int, sparse: str | None, stock: bool
) -> str | None:
    model, baseline = models
    notes = []
    if prefilled < length:
        notes.append(f"prefill of {prefilled} tokens, not {length}: the model takes no more.")
    ours = _settings(model)
    differing = {name: value for name, value in _settings(baseline).items() if value != ours[name]}
    if differing:
        listed = ", ".join(f"{name} = {value}" for name, value in differing.items())
        notes.append(f"the baseline ran with {listed}.")
    if sparse:
        notes.append(sparse)
    if any(isinstance(part, Packed) and part.settled for part in model.modules()):
        whose = "moebench's own product" if native.product() else "torch's kernel"
        notes.append(f"packed weights meet a few rows in {whose}.")
    if stock and replaced(model):
        notes.append("the compressed model's experts run in moebench's own module in every path.")
    return " ".join(notes) or None
