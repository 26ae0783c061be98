"""The cost of a model under a protocol: its memory, speed and throughput."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.measure.speed.throughput import Prompts
    from harness.model.view import MoEModel
    from harness.records.protocol import Protocol
    from harness.records.record import Memory, Speed, Throughput


def fitting_length(model: MoEModel, protocol: Protocol) -> int:
    """Return the protocol's sequence length, or the model's limit where that is lower."""
    asked = protocol.sequence_length
    return min(asked, getattr(model.config, "max_position_embeddings", None) or asked)


def running_memory(model: MoEModel, length: int) -> Memory:
    """Measure the peak memory of one forward pass.

    Args:
        model: The model, on the device where it runs.
        length: Number of random tokens in the one sequence.
    """
    import torch

    from harness.measure.memory import PeakMemory

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (1, length), generator=generator)  # [1, length]
    ids = ids.to(model.device)
    with PeakMemory(model.device) as peak, torch.no_grad():
        model.lm(input_ids=ids, use_cache=False)
    return peak.memory


def measure_speed(model: MoEModel, baseline: MoEModel, protocol: Protocol) -> list[Speed]:
    """Measure prefill and decoding of two models in turn.

    Args:
        model: The compressed model, like the baseline on the device where it runs.
        baseline: The model that it is compared with.
        protocol: Gives lengths, repetitions, batches, and if stock runtimes are measured.

    Returns:
        The speeds; the first is of the protocol's first batch in the faster runtime.
    """
    from harness.measure.speed.compared import measure_speeds

    return measure_speeds(
        model.lm,
        baseline.lm,
        length=protocol.sequence_length,
        new_tokens=protocol.new_tokens,
        repetitions=protocol.repetitions,
        batches=protocol.batches,
        stock="stock" in protocol.measure,
    )


def measure_instructions(
    model: MoEModel, baseline: MoEModel, prompts: Prompts, protocol: Protocol
) -> Throughput:
    """Measure EEP's throughput of two models in turn."""
    from harness.measure.speed.throughput import measure_throughput

    return measure_throughput(
        model.lm, baseline.lm, prompts, new_tokens=protocol.instruction_tokens
    )


def simulated_bits(model: MoEModel) -> Set[int]:
    """Return the bits of the model's quantization that is only simulated, by dense weights."""
    edits = [edit.data() for edit in model.edits if getattr(edit, "simulated", False)]
    return {int(edit["scheme"]["bits"]) for edit in edits}
