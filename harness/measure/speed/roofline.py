"""The shortest possible decoding step, and how near a measured one comes to it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from transformers import PreTrainedModel

from harness.measure.speed.bandwidth import copy_bandwidth
from harness.measure.speed.runtime import Generation
from harness.measure.speed.traffic import traffic
from harness.records.record import Roofline


def roofline(lm: PreTrainedModel, generation: Generation, seconds: Sequence[float]) -> Roofline:
    """The bytes a step must move over the measured bandwidth, and the share of it reached.

    A copy reads and writes; a decoding step mostly reads, which some processors do faster than
    they copy: a share above 1 is possible there.

    Args:
        lm: The model that ran.
        generation: Of its runs.
        seconds: Of a decoding step, one per repetition.
    """
    batch, tokens = generation.ids.shape
    context = (generation.length + tokens) // 2
    moved = traffic(lm, batch=batch, context=context, cache_bytes=generation.cache_bytes)
    bandwidth = copy_bandwidth(lm.device)
    return Roofline(
        bytes_per_step=moved.total,
        parts=moved.parts,
        context=context,
        bandwidth=bandwidth,
        reached=moved.total / bandwidth / median(seconds),
        note=_note(moved.experts, batch),
    )


def _note(experts: float, batch: int) -> str:
    if not experts:
        return "no routed experts."
    if batch == 1:
        return f"{experts:.2f} routed experts read per MoE layer and step."
    return (
        f"{experts:.2f} routed experts read per MoE layer and step: expected of {batch} tokens "
        "that choose independently, every expert equally often."
    )
