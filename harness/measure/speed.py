"""Speed of a compressed model against its baseline, repetitions interleaved."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from harness.errors import UserError
from harness.measure.bootstrap import speedup
from harness.measure.generation import Generation, Span
from harness.record import Speed, Timing

logger = logging.getLogger(__name__)

Pair = tuple[Span, Span]
"""The compressed model's span and the baseline's, of one repetition."""


def measure_speed(
    model: PreTrainedModel,
    baseline: PreTrainedModel,
    *,
    length: int,
    new_tokens: int,
    repetitions: int,
    batch: int = 1,
    seed: int = 0,
) -> Speed:
    """Time prefill and decoding of both models on the same random tokens.

    Both run once unmeasured. Then each repetition times both, one right after the other, and the
    one that goes first alternates. `baseline is model` measures the model against itself: the
    interval then shows the noise of the machine.

    Nothing else should run meanwhile; see `harness.measure.exclusive`.

    Args:
        model: Compressed, on its device, in evaluation mode.
        baseline: What it was compressed from.
        length: Tokens of the prefill; fewer where a model takes fewer, and then said in `note`.
        new_tokens: Tokens decoded after it, one at a time.
        repetitions: Pairs of runs that are timed.
        batch: Sequences at once.
        seed: Of the tokens and of the bootstrap.

    Raises:
        UserError: a model has no room for a single token before the `new_tokens`.
    """
    prefilled = _prefill_length(length, new_tokens, (model, baseline))
    vocabulary = min(lm.config.vocab_size for lm in (model, baseline))
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocabulary, (batch, prefilled + new_tokens), generator=generator)  # [B, T]
    both = Generation(model, ids, prefilled), Generation(baseline, ids, prefilled)
    with _ordinary_kernels():
        prefill, decode = _interleave(both, repetitions)
    return Speed(
        length=prefilled,
        new_tokens=new_tokens,
        batch=batch,
        prefill=_timing(prefill, seed),
        decode=_timing(decode, seed),
        cache=type(both[0].cache).__name__,
        threads=torch.get_num_threads(),
        note=_note(model, baseline, length, prefilled),
        **_settings(model),
    )


def _prefill_length(length: int, new_tokens: int, models: Sequence[PreTrainedModel]) -> int:
    limits = (getattr(lm.config, "max_position_embeddings", None) for lm in models)
    room = min((limit - new_tokens for limit in limits if limit), default=length)
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


def _interleave(
    both: tuple[Generation, Generation], repetitions: int
) -> tuple[list[Pair], list[Pair]]:
    """Prefill and decoding spans of each repetition, after one unmeasured run of each model."""
    for generation in both:
        generation.run()
    prefill, decode = [], []
    for repetition in range(repetitions):
        if repetition % 2 == 0:
            ours, theirs = both[0].run(), both[1].run()
        else:
            theirs, ours = both[1].run(), both[0].run()
        prefill.append((ours[0], theirs[0]))
        decode.append((ours[1], theirs[1]))
        logger.debug("repetition %d of %d", repetition + 1, repetitions)
    return prefill, decode


def _timing(pairs: Sequence[Pair], seed: int) -> Timing:
    ours, theirs = zip(*pairs, strict=True)
    seconds = [span.seconds for span in ours]
    baseline_seconds = [span.seconds for span in theirs]
    gain = speedup(seconds, baseline_seconds, seed=seed)
    return Timing(
        seconds=seconds,
        cpu_seconds=[span.cpu_seconds for span in ours],
        baseline_seconds=baseline_seconds,
        baseline_cpu_seconds=[span.cpu_seconds for span in theirs],
        speedup=gain.ratio,
        low=gain.low,
        high=gain.high,
    )


def _settings(lm: PreTrainedModel) -> dict[str, str]:
    """What a speed depends on and a model can differ in."""
    return {
        "experts_implementation": str(getattr(lm.config, "_experts_implementation", None)),
        "attention_implementation": str(lm.config._attn_implementation),
        "dtype": str(lm.dtype).removeprefix("torch."),
        "device": str(lm.device),
    }


def _note(
    model: PreTrainedModel, baseline: PreTrainedModel, length: int, prefilled: int
) -> str | None:
    notes = []
    if prefilled < length:
        notes.append(f"prefill of {prefilled} tokens, not {length}: the model takes no more.")
    ours = _settings(model)
    differing = {name: value for name, value in _settings(baseline).items() if value != ours[name]}
    if differing:
        listed = ", ".join(f"{name} = {value}" for name, value in differing.items())
        notes.append(f"the baseline ran with {listed}.")
    return " ".join(notes) or None
