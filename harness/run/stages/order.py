"""The stages of a cell in their order: prepare, compress, audit, evaluate, measure."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.records.basis import STAGES, Stage
from harness.records.record import Environment, Item, Record
from harness.run.job import Job, Say
from harness.run.stages.evaluating import evaluate_tasks, measure_perplexities
from harness.run.stages.measuring import (
    fitting_length,
    measure_instructions,
    measure_speed,
    running_memory,
    simulated_bits,
)
from harness.run.stages.models import Models
from harness.run.stages.opening import device
from harness.run.stages.preparing import prepare_process
from harness.run.stages.random_models import RandomModels
from harness.run.stages.stored_models import StoredModels

if TYPE_CHECKING:
    from harness.model.view import MoEModel

MODELS_OF: Mapping[str, type[Models]] = {"stored": StoredModels, "random": RandomModels}
"""The class of a cell's models by where their weights come from, as `ModelInfo.weights` says."""

LATER: Mapping[Stage, tuple[str, ...]] = {
    "evaluate": ("tasks", "perplexity", "flops"),
    "measure": ("size", "memory_running", "speed", "speeds", "throughput"),
}
"""The fields of a record that a stage after `compress` fills."""


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
        """Run all stages that are due; what an error leaves undone is missing in the results."""
        self.prepare()
        model = self.compress()
        self.note_simulated(model)
        self.note_length(model)
        self.audit(model)
        due = self.due()
        # First, before evaluation leaves its freed memory with the allocator.
        if "measure" in due:
            self.measure_memory(model)
        if "evaluate" in due:
            self.evaluate(model)
        if "measure" in due:
            self.measure(model)

    def due(self) -> frozenset[Stage]:
        """Return the stages to run; the results of the others are taken from the earlier outcome.

        All stages are, where the earlier model was another, or lay on another machine.
        """
        earlier = self.job.earlier
        if earlier is None or not self.repeats(earlier.record):
            return frozenset(STAGES)
        for stage in LATER.keys() - self.job.due:
            self.results |= {name: getattr(earlier.record, name) for name in LATER[stage]}
        if "evaluate" not in self.job.due:
            self.items = list(earlier.items)
        return self.job.due

    def repeats(self, earlier: Record) -> bool:
        """Return True if compressing came to the same as before, and said the same."""
        environment: Environment = self.results["environment"]
        return (
            earlier.edits == self.results["edits"]
            and set(earlier.warnings) <= set(self.warnings)
            and earlier.environment is not None
            and environment.decisive == earlier.environment.decisive
        )

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
        bits = sorted(map(str, simulated_bits(model)))
        if bits:
            self.asked &= {"flops"}
            self.warnings.append(
                f"{' and '.join(bits)} bits are simulated by dense weights on the grid: this row "
                "has no size, memory or speed."
            )

    def note_length(self, model: MoEModel) -> None:
        """Say so where the model does not take the protocol's sequence length."""
        asked, fitting = self.job.cell.protocol.sequence_length, self.length(model)
        if fitting < asked and {"flops", "memory"} & self.asked:
            self.warnings.append(
                f"FLOPs and memory are of {fitting} tokens, not {asked}: the model takes no more."
            )

    def length(self, model: MoEModel) -> int:
        """Return the tokens of the one sequence that FLOPs and memory are of."""
        return fitting_length(model, self.job.cell.protocol)

    def audit(self, model: MoEModel) -> None:
        """Compare the model with its edits, and with its files where it has any."""
        from harness.model.files.audit import audit

        self.results["audit"] = audit(model, self.models.folder)

    def measure_memory(self, model: MoEModel) -> None:
        """Measure the memory while running, if the protocol asks for it."""
        if "memory" in self.asked:
            self.say("measuring memory")
            self.results["memory_running"] = running_memory(model, self.length(model))

    def evaluate(self, model: MoEModel) -> None:
        """Evaluate the protocol's tasks and perplexities, and count the FLOPs of what was computed.

        Random weights have no tasks and no perplexity.
        """
        from harness.measure.shares import measured_shares

        protocol, data_root = self.job.cell.protocol, self.job.data_root
        if protocol.tasks or protocol.perplexity:
            with measured_shares(model.lm):
                self.results["tasks"], self.items = evaluate_tasks(
                    model, protocol, data_root=data_root, say=self.say
                )
                self.results["perplexity"] = measure_perplexities(
                    model, protocol, data_root=data_root, say=self.say
                )
        if "flops" in self.asked:
            from harness.measure.flops import measure_flops

            self.say("counting FLOPs")
            self.results["flops"] = measure_flops(model, self.length(model))

    def measure(self, model: MoEModel) -> None:
        """Measure size and speed, as far as the protocol asks for them."""
        if "size" in self.asked:
            self.say("measuring size")
            self.results["size"] = self.models.size(model)
        if {"speed", "instructions"} & self.asked:
            self.measure_speed(model, self.models.base_model(beside=model))

    def measure_speed(self, model: MoEModel, baseline: MoEModel) -> None:
        """Measure speed and throughput, while no other moebench process measures."""
        from harness.measure.exclusive import exclusive

        protocol = self.job.cell.protocol
        prompts = self.models.prompts(model) if "instructions" in protocol.measure else None
        self.say("waiting to measure speed")
        with exclusive():
            self.say("measuring speed")
            if "speed" in protocol.measure:
                speeds = measure_speed(model, baseline, protocol)
                self.results["speed"], *self.results["speeds"] = speeds
            if prompts is not None:
                self.results["throughput"] = measure_instructions(
                    model, baseline, prompts, protocol
                )
