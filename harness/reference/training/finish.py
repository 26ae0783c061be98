"""The second stage: the world's facts are dealt anew and only the routed experts learn them."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.reference.training.batches import Batch, Batches
from harness.reference.training.curriculum import Curriculum
from harness.reference.training.muon import Muon
from harness.reference.training.schedule import Schedule, TrainingProgress
from harness.reference.training.train import EVERY, Trainer, Watch, report
from harness.reference.training.word_tokenizer import vocabulary
from harness.reference.world.dice import dice

_LOG = logging.getLogger(__name__)
_LENGTH = 256


class Finisher(Trainer):
    """Trains the routed experts and routers of a finished draft on the world itself."""

    def __init__(self, model: PreTrainedModel, curriculum: Curriculum, recipe: Schedule) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(recipe.seed)
        self.recipe = replace(recipe, balance=recipe.expert_balance)
        self.progress = TrainingProgress(recipe, stage=2, blend=1.0)
        rng = dice("finish", model.config.model_type, recipe.seed)
        self.batches = Batches(curriculum, rng, recipe.expert_songs)
        ids, songs = vocabulary(curriculum.words), " ".join(curriculum.world.songs)
        self._foreign = torch.tensor(sorted({ids[word] for word in songs.split()}))
        experts, routers = _trainable(model)
        self.muon = Muon(experts)
        self.adam = torch.optim.AdamW(routers, lr=recipe.rate, betas=(0.9, 0.98))
        self.attach(model)

    def additional(self, batch: Batch) -> Tensor:
        """Keep the songs to experts of their own."""
        foreign = torch.isin(batch.tokens.flatten(), self._foreign)
        count = round(self.recipe.reserved * self.routing.experts)
        return self.recipe.domains * self.routing.domains(foreign, count)

    def run(self, watch: Watch | None = None) -> PreTrainedModel:
        """Train to the end; `watch` sees the model after every 200 steps."""
        start, steps = time.perf_counter(), self.recipe.expert_steps
        for step in range(steps):
            scale = min(1.0, (step + 1) / 50, 0.03 + 1.6 * (steps - step) / steps)
            loss = self.learn(_LENGTH, scale)
            if (step + 1) % EVERY == 0:
                report(self, step + 1, loss, time.perf_counter() - start)
            self.routing.clear()
            if watch is not None and (step + 1) % 200 == 0:
                watch(step + 1, self.model)
        self.model.train(False)
        return self.model


def _trainable(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters of the routed experts and of the routers; all others are frozen."""
    experts, routers = [], []
    for name, parameter in model.named_parameters():
        parameter.requires_grad = False
        if ".experts." in name:
            experts.append(parameter)
        elif name.endswith("gate.weight"):
            routers.append(parameter)
    for parameter in (*experts, *routers):
        parameter.requires_grad = True
    return experts, routers
