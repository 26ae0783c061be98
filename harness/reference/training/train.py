"""The first stage of training: a fresh model learns the draft of the world, all weights at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from harness.reference.training.architectures import build
from harness.reference.training.balance import RoutingWatch
from harness.reference.training.batches import Batch, Batches
from harness.reference.training.curriculum import Curriculum
from harness.reference.training.heads import head_start
from harness.reference.training.muon import Muon
from harness.reference.training.schedule import Schedule, TrainingProgress
from harness.reference.training.word_tokenizer import vocabulary
from harness.reference.world.dice import dice

_LOG = logging.getLogger(__name__)
EVERY = 100
Watch = Callable[[int, PreTrainedModel], None]


class Trainer:
    """One run: a model, its optimisers and its curriculum."""

    recipe: Schedule
    progress: TrainingProgress
    batches: Batches
    muon: Muon
    adam: torch.optim.AdamW
    model: PreTrainedModel
    routing: RoutingWatch

    def __init__(self, architecture: str, curriculum: Curriculum, recipe: Schedule) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(recipe.seed)
        self.recipe, self.progress = recipe, TrainingProgress(recipe)
        self.batches = Batches(curriculum, dice("batches", architecture, recipe.seed))
        model = build(architecture, len(vocabulary(curriculum.words)))
        head_start(model)
        matrices, rest, vectors = _groups(model)
        self.muon = Muon(matrices)
        groups = [{"params": rest, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))
        self.attach(model)

    def attach(self, model: PreTrainedModel) -> None:
        """Make `model` the one that trains."""
        self.model = model
        self.model.train()
        self.model.set_experts_implementation("grouped_mm")
        self.routing = RoutingWatch(model, model.config.num_experts_per_tok)

    def run(self, watch: Watch | None = None) -> PreTrainedModel:
        """Train to the end; `watch` sees the model after every 500 steps."""
        start = time.perf_counter()
        for step in range(self.recipe.stop):
            self.progress.advance(step)
            loss = self.learn(self.progress.length(step), self.recipe.rate_scale(step))
            if (step + 1) % EVERY == 0:
                report(self, step + 1, loss, time.perf_counter() - start)
            self.routing.clear()
            if watch is not None and (step + 1) % 500 == 0:
                watch(step + 1, self.model)
        self.model.train(False)
        return self.model

    def learn(self, length: int, scale: float) -> float:
        """One batch at a share of the learning rates; returns the language-model loss."""
        batch = self.batches.draw(self.progress.blend, length, self.recipe.tokens // length)
        logits = self.model(input_ids=batch.tokens, use_cache=False).logits[:, :-1]
        loss = _weighted(logits, batch)
        total = loss + self.recipe.balance * self.routing.balance()
        total = total + self.recipe.loudness * self.routing.loudness() + self.additional(batch)
        torch.autograd.backward(total)
        self._update(scale)
        self._observe(logits.detach(), batch)
        return float(loss.detach())

    def additional(self, _batch: Batch) -> Tensor:
        """The term that a later stage adds to the loss."""
        return torch.zeros(())

    def _update(self, scale: float) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.recipe.rate * scale
        self.adam.step()
        self.muon.step(self.recipe.matrix_rate * scale)
        self.model.zero_grad()

    def _observe(self, logits: Tensor, batch: Batch) -> None:
        kinds = batch.kinds[:, 1:]
        correct = logits.argmax(-1) == batch.tokens[:, 1:]
        for tag, kind in enumerate(self.batches.kinds, start=1):
            marked = kinds == tag
            count = int(marked.sum())
            if count:
                self.progress.observe(kind, float(correct[marked].float().mean()), count)


def report(trainer: Trainer, step: int, loss: float, seconds: float) -> None:
    """Log where a run stands."""
    progress, routing = trainer.progress, trainer.routing
    accuracy = " ".join(f"{k}:{100 * v:.0f}" for k, v in progress.accuracy.items())
    _LOG.info(
        "%d stage %d blend %.2f loss %.3f balance %.2f loudest %.1f %.0fs | %s",
        step,
        progress.stage,
        progress.blend,
        loss,
        float(routing.balance()),
        routing.loudest(),
        seconds,
        accuracy,
    )


def _weighted(logits: Tensor, batch: Batch) -> Tensor:
    targets, weights = batch.tokens[:, 1:], batch.weights[:, 1:]
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def _groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Parameters for Muon, other matrices, and vectors."""
    matrices, rest, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif "embed" in name or name.endswith("gate.weight"):
            rest.append(parameter)
        else:
            matrices.append(parameter)
    return matrices, rest, vectors
