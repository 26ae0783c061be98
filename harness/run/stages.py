"""The stages of a cell, and what they find."""

from __future__ import annotations

import gc
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plan.cell import Cell
from harness.records.record import Item
from harness.run.compressing import Compressed, compress_to
from harness.run.job import Job, Say
from harness.run.models import data_of, device, open_base

if TYPE_CHECKING:
    from harness.measure.speed.throughput import Prompts
    from harness.model.view import MoEModel
    from harness.records.protocol import Protocol
    from harness.records.record import Environment, Memory, Size


@dataclass
class Work:
    """The stages of a cell, and what they have found so far."""

    job: Job
    say: Say
    results: dict[str, Any] = field(default_factory=dict)
    """Fields of the record."""
    items: list[Item] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    asked: set[str] = field(init=False)
    """What is measured."""

    def __post_init__(self) -> None:
        self.asked = set(self.job.cell.protocol.measure)

    def run(self) -> None:
        _prepare(self.job.cell)
        self.results["environment"] = _environment(self.job.cell.protocol)
        model = self.random() if self.job.cell.random else self.reloaded()
        self.note_simulated(model)
        self.audit(model)
        # First, before evaluation leaves its freed memory with the allocator.
        self.measure_memory(model)
        self.evaluate(model)
        self.measure(model)

    def reloaded(self) -> MoEModel:
        """The compressed model, saved and loaded again."""
        self.keep(compress_to(self.job.artifact, self.job, self.say))
        gc.collect()
        self.say("loading the artifact")
        return _load(self.job)

    def random(self) -> MoEModel:
        """The compressed model with random weights, which no file has held."""
        from harness.run.random_weights import build

        model, found = build(self.job, self.say)
        self.keep(found)
        gc.collect()
        return model

    def keep(self, found: Compressed) -> None:
        """Put what compressing has shown into the record."""
        results = dict(vars(found))
        self.warnings += results.pop("warnings")
        self.results.update(results)

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

    @property
    def folder(self) -> Path | None:
        """Where the artifact is; None for random weights."""
        return None if self.job.cell.random else self.job.artifact

    def audit(self, model: MoEModel) -> None:
        from harness.model.files.audit import audit

        self.results["audit"] = audit(model, self.folder)

    def evaluate(self, model: MoEModel) -> None:
        """Tasks and perplexity; random weights have neither, and need nothing imported for them."""
        if self.job.cell.random:
            return
        from harness.measure.shares import measured_shares

        with measured_shares(model.lm):
            self._evaluate(model)

    def _evaluate(self, model: MoEModel) -> None:
        from harness.evaluate.perplexity import perplexity
        from harness.evaluate.tasks import evaluate_tasks

        protocol = self.job.cell.protocol
        data = data_of(self.job)
        if protocol.tasks:
            self.say("evaluating tasks")
            tasks, self.items = evaluate_tasks(
                model.lm,
                model.tokenizer,
                protocol.tasks,
                data=data,
                shots=protocol.shots,
                limit=protocol.limit,
                batch_size=protocol.batch_size,
            )
            self.results["tasks"] = tasks
        self.results["perplexity"] = found = {}
        for name in protocol.perplexity:
            self.say(f"measuring perplexity {name}")
            found[name] = perplexity(
                model.lm, model.tokenizer, name, data=data, batch_size=protocol.batch_size
            )

    def measure_memory(self, model: MoEModel) -> None:
        """Memory while running, if the protocol asks for it."""
        if "memory" in self.asked:
            self.say("measuring memory")
            self.results["memory_running"] = running_memory(model, self.fitting_length(model))

    def measure(self, model: MoEModel) -> None:
        """Size, FLOPs and speed, as far as the protocol asks for them."""
        length = self.fitting_length(model)
        if "size" in self.asked:
            self.say("measuring size")
            self.results["size"] = self.size(model)
        if "flops" in self.asked:
            from harness.measure.flops import measure_flops

            self.say("counting FLOPs")
            self.results["flops"] = measure_flops(model, length)
        if {"speed", "instructions"} & self.asked:
            self.measure_speed(model, self.baseline(model))

    def measure_speed(self, model: MoEModel, baseline: MoEModel) -> None:
        """Speed and throughput, while no other moebench process measures."""
        from harness.measure.exclusive import exclusive
        from harness.measure.speed.compared import measure_speeds
        from harness.measure.speed.throughput import measure_throughput

        protocol = self.job.cell.protocol
        prompts = self.prompts(model) if "instructions" in protocol.measure else None
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

    def prompts(self, model: MoEModel) -> Prompts:
        """The instructions of EEP's protocol; random tokens for a model without a tokenizer."""
        from harness.measure.speed.throughput import Prompts, instructions

        count = self.job.cell.protocol.instructions
        if self.job.cell.random or not model.has_tokenizer:
            return Prompts.random(count, model.config.vocab_size)
        return instructions(model, count, data=data_of(self.job))

    def baseline(self, model: MoEModel) -> MoEModel:
        """What speed is compared with, beside the compressed model on the same device."""
        if not self.job.cell.random:
            return open_base(self.job.cell)
        from harness.run.random_weights import beside, room

        self.say("building the baseline")
        base, shared = beside(model, self.job.cell, room=room())
        if shared:
            self.warnings.append(
                "Speed: this model's dense weights lay in the baseline's memory, since both do "
                "not fit beside each other; both are random."
            )
        return base

    def size(self, model: MoEModel) -> Size:
        """Counts and bytes; for random weights the bytes that an artifact's tensors would take."""
        from harness.measure.size import measure_size

        found = measure_size(model, self.folder, values=not self.job.cell.random)
        if not self.job.cell.random:
            return found
        from harness.model.files.random_values import stored_bytes

        return found.model_copy(update={"artifact_bytes": stored_bytes(model)})

    def fitting_length(self, model: MoEModel) -> int:
        """The protocol's sequence length, or the model's positions where those are fewer."""
        asked = self.job.cell.protocol.sequence_length
        positions = getattr(model.config, "max_position_embeddings", None) or asked
        if positions < asked:
            self.warnings.append(
                f"FLOPs and memory are of {positions} tokens, not {asked}: the model takes no more."
            )
        return min(asked, positions)


def running_memory(model: MoEModel, length: int) -> Memory:
    """Peak memory of one forward pass over `length` random tokens, batch 1."""
    import torch

    from harness.measure.memory import PeakMemory

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (1, length), generator=generator)  # [1, length]
    ids = ids.to(model.device)
    with PeakMemory(model.device) as peak, torch.no_grad():
        model.lm(input_ids=ids, use_cache=False)
    return peak.memory


def _load(job: Job) -> MoEModel:
    import torch

    from harness.model.files import artifact

    protocol = job.cell.protocol
    return artifact.load(
        job.artifact,
        dtype=getattr(torch, protocol.dtype),
        device=device(),
        experts=protocol.experts_implementation,
        attention=protocol.attention_implementation,
    )


def _prepare(cell: Cell) -> None:
    """The whole process is this cell's, so global settings are the cell's too."""
    import torch
    from tqdm import tqdm  # type: ignore[import-untyped]

    # Its own lock is a semaphore of the system, which a killed worker would leave behind.
    tqdm.set_lock(threading.RLock())
    if cell.protocol.threads is not None:
        torch.set_num_threads(cell.protocol.threads)
    torch.manual_seed(cell.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It would touch every page of every new tensor, which peak memory would then show.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _environment(protocol: Protocol) -> Environment:
    from harness.measure.environment import environment

    return environment(device=device(), threads=protocol.threads)
