"""The stages of a cell in their order: prepare, compress, audit, evaluate, measure."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.records.record import Item
from harness.run.evaluating import evaluate_tasks, measure_perplexities
from harness.run.job import Job, Say
from harness.run.models import Models
from harness.run.opening import device
from harness.run.preparing import prepare_process
from harness.run.random_models import RandomModels
from harness.run.stored_models import StoredModels

if TYPE_CHECKING:
    from harness.model.view import MoEModel
    from harness.records.record import Memory

MODELS_OF: Mapping[str, type[Models]] = {"stored": StoredModels, "random": RandomModels}
"""The class of a cell's models by where their weights come from, as `ModelInfo.weights` says."""


@dataclass
class Stages:
    """The stages of a cell, and its results so far."""

    job: Job
    say: Say
    models: Models = field(init=False)
    results: dict[str, Any] = field(default_factory=dict)
    """Fields of the record, as far as they are known."""
    items: list[Item] = field(default_factory=list)
    """Outcomes of the items that the model was evaluated on."""
    warnings: list[str] = field(default_factory=list)
    asked: set[str] = field(init=False)
    """Quantities to measure: the protocol's, or fewer where the model cannot show them."""

    def __post_init__(self) -> None:
        cell = self.job.cell
        self.models = MODELS_OF[cell.model.weights](self.job, self.say)
        self.asked = set(cell.protocol.measure)

    def run(self) -> None:
        """Run all stages; what an error leaves undone is missing in the results."""
        self.prepare()
        model = self.compress()
        self.note_simulated(model)
        self.audit(model)
        # First, before evaluation leaves its freed memory with the allocator.
        self.measure_memory(model)
        self.evaluate(model)
        self.measure(model)

    def prepare(self) -> None:
        """Set the process up for this cell, and note the machine it runs on."""
        from harness.measure.environment import environment

        cell = self.job.cell
        prepare_process(seed=cell.seed, threads=cell.protocol.threads)
        self.results["environment"] = environment(device=device(), threads=cell.protocol.threads)

    def compress(self) -> MoEModel:
        """Carry the cell's steps out, and return the model to evaluate and measure."""
        facts = dict(vars(self.models.compress()))
        self.warnings += facts.pop("warnings")
        self.results.update(facts)
        gc.collect()
        return self.models.compressed_model()

    def note_simulated(self, model: MoEModel) -> None:
        """Ask for no bytes and no speed where quantization is only simulated, and say so."""
        edits = [edit.data() for edit in model.edits if getattr(edit, "simulated", False)]
        bits = sorted({str(edit["scheme"]["bits"]) for edit in edits})
        if bits:
            self.asked &= {"flops"}
            self.warnings.append(
                f"{' and '.join(bits)} bits are simulated by dense weights on the grid: this row "
                "has no size, memory or speed."
            )

    def audit(self, model: MoEModel) -> None:
        """Compare the model with its edits, and with its files where it has any."""
        from harness.model.files.audit import audit

        self.results["audit"] = audit(model, self.models.folder)

    def measure_memory(self, model: MoEModel) -> None:
        """Measure the memory while running, if the protocol asks for it."""
        if "memory" in self.asked:
            self.say("measuring memory")
            self.results["memory_running"] = running_memory(model, self.fitting_length(model))

    def evaluate(self, model: MoEModel) -> None:
        """Evaluate the protocol's tasks and perplexities, of which random weights have none."""
        protocol, data_root = self.job.cell.protocol, self.job.data_root
        if not protocol.tasks and not protocol.perplexity:
            return
        from harness.measure.shares import measured_shares

        with measured_shares(model.lm):
            self.results["tasks"], self.items = evaluate_tasks(
                model, protocol, data_root=data_root, say=self.say
            )
            self.results["perplexity"] = measure_perplexities(
                model, protocol, data_root=data_root, say=self.say
            )

    def measure(self, model: MoEModel) -> None:
        """Measure size, FLOPs and speed, as far as the protocol asks for them."""
        length = self.fitting_length(model)
        if "size" in self.asked:
            self.say("measuring size")
            self.results["size"] = self.models.size(model)
        if "flops" in self.asked:
            from harness.measure.flops import measure_flops

            self.say("counting FLOPs")
            self.results["flops"] = measure_flops(model, length)
        if {"speed", "instructions"} & self.asked:
            self.measure_speed(model, self.models.base_model(beside=model))

    def measure_speed(self, model: MoEModel, baseline: MoEModel) -> None:
        """Measure speed and throughput, while no other moebench process measures."""
        from harness.measure.exclusive import exclusive
        from harness.measure.speed.compared import measure_speeds
        from harness.measure.speed.throughput import measure_throughput

        protocol = self.job.cell.protocol
        prompts = self.models.prompts(model) if "instructions" in protocol.measure else None
        self.say("waiting to measure speed")
        with exclusive():
            self.say("measuring speed")
            if "speed" in protocol.measure:
                self.results["speed"], *self.results["speeds"] = measure_speeds(
                    model.lm,
                    baseline.lm,
                    length=protocol.sequence_length,
                    new_tokens=protocol.new_tokens,
                    repetitions=protocol.repetitions,
                    batches=protocol.batches,
                    stock="stock" in protocol.measure,
                )
            if prompts is not None:
                self.results["throughput"] = measure_throughput(
                    model.lm, baseline.lm, prompts, new_tokens=protocol.instruction_tokens
                )

    def fitting_length(self, model: MoEModel) -> int:
        """Return the protocol's sequence length, or the model's limit where that is lower."""
        asked = self.job.cell.protocol.sequence_length
        positions = getattr(model.config, "max_position_embeddings", None) or asked
        if positions < asked:
            self.warnings.append(
                f"FLOPs and memory are of {positions} tokens, not {asked}: the model takes no more."
            )
        return min(asked, positions)


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
