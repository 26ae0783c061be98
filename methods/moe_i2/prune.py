"""MoE-I² inter-expert pruning: genetic search per layer, then the choices that go best together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field

from harness.method import (
    Calibration,
    Edit,
    Follow,
    Importance,
    KeepBudget,
    KeepExperts,
    LiveBlock,
    Method,
    MoEModel,
    Note,
    SubsetErrors,
    leave_one_out,
)
from methods.moe_i2.genetic import search
from methods.moe_i2.layer_counts import by_importance
from methods.moe_i2.reception_field import Choices, combination, combined_losses, fields


class MoEI2Prune(KeepBudget, Method):
    """Inter-expert pruning of MoE-I² (Yang et al. 2024, arXiv 2411.01016, section 3.1).

    1. Every layer gives up equally many experts, or (`layers = "importance"`) more where the
       model's loss rises less without one of them: the paper's choice for DeepSeek-V2-Lite.
    2. Per layer a genetic search finds the `best` subsets with the least sum over calibration
       batches of || F(X) - F(X, kept) ||_F, F the MoE layer.
    3. KT-reception field: of all combinations of the best subsets of `field` consecutive MoE
       layers, the one whose last block's output is nearest to the original model's is pruned.

    Behind a group-limited router every layer gives up equally many experts of each group.

    Deviations, where the paper is silent: how importance becomes counts (`by_importance`);
    the parents, offspring and mutations of the search (`genetic`); the norm of step 3, the same
    Frobenius norm per batch as in step 2; what enters a field (`progressive`). Losses of step 2
    come from per-token Gram matrices in fp64 instead of one forward per subset (equal to rounding).
    """

    name: ClassVar[str] = "moe-i2-prune"
    reference: ClassVar[str] = (
        "Yang et al. 2024, arXiv 2411.01016: genetic search on sum_b ||F(X_b) - F_K(X_b)||, "
        "then the best of K^T combinations"
    )

    layers: Literal["uniform", "importance"] = "uniform"
    """Equally many experts from every layer, or fewer from layers of higher importance."""
    population: int = Field(default=100, ge=2)
    """Number of subsets in each generation of the search (N)."""
    iterations: int = Field(default=50, ge=0)
    """Number of generations after the first, random one."""
    best: int = Field(default=3, ge=1)
    """Number of subsets that a layer hands to step 3 (K)."""
    field: int = Field(default=3, ge=1)
    """Number of consecutive MoE layers whose subsets are chosen together (T); 1 with `best = 1` is
    plain layer-wise search."""
    progressive: bool = False
    """Let the fields pruned already supply what enters a field, in steps 2 and 3; its output is
    still compared with the original model's. By default the original model supplies it, as in
    EEP's layer-wise pruning."""
    tokens: int | None = Field(default=None, ge=1)
    """Largest number of tokens per calibration batch that the search looks at; None for all."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield KeepExperts field by field, and the notes of every step."""
        drops = self.plan_drops(model)
        yield from self.told(model)
        if self.layers == "importance":
            importance = leave_one_out(model, calibration)
            yield Note(name="moe-i2.importance", data=importance.table())
            drops = self._by_importance(model, importance, drops)
        kept = {b.index: len(b.experts) - drops[b.index] for b in model.moe_blocks()}
        yield Note(name="moe-i2-prune.counts", data=kept)
        generator = torch.Generator().manual_seed(self.seed)
        follow: Follow = "both" if self.progressive else "original"
        for window in calibration.windows(model, fields(model, self.field), follow=follow):
            choices: dict[int, list[KeepExperts]] = {}
            for block in window:
                if drops.get(block.index):
                    # Without tokens every subset is as good: a dry run need not search.
                    rounds = self.iterations if calibration.tokens.sequences else 0
                    note, edits = self._searched(block, drops[block.index], rounds, generator)
                    yield note
                    choices[block.index] = edits
            yield from self._together(window, choices)

    def _by_importance(
        self, model: MoEModel, importance: Importance, drops: Mapping[int, int]
    ) -> dict[int, int]:
        """Experts that each layer loses; counted in sets of one of each group of the router."""
        layers = model.moe_blocks()
        parts = {block.index: len(block.groups) for block in layers}
        most = {b.index: (len(b.experts) - self.fewest(b)) // parts[b.index] for b in layers}
        sets = {index: count // parts[index] for index, count in drops.items()}
        spread = by_importance(importance, sets, most)
        return {index: count * parts[index] for index, count in spread.items()}

    def _searched(
        self, block: LiveBlock, drop: int, iterations: int, generator: torch.Generator
    ) -> tuple[Note, list[KeepExperts]]:
        """The best subsets of a layer, the best first."""
        errors = block.collect(SubsetErrors(drop, tokens=self.tokens))
        result = search(
            errors.losses,
            experts=len(block.experts),
            drop=drop,
            generator=generator,
            population=self.population,
            iterations=iterations,
            best=self.best,
            groups=[[block.experts.index(one) for one in group] for group in block.groups],
        )
        numbers = torch.tensor(block.experts)
        edits = [
            KeepExperts(block=block.index, experts=tuple(numbers[kept].tolist()))
            for kept in result.kept
        ]
        data = {"block": block.index, "best": list(result.best), "mean": list(result.mean)}
        return Note(name="moe-i2-prune.search", data=data), edits

    def _together(self, window: Sequence[LiveBlock], choices: Choices) -> Iterator[Edit | Note]:
        """The combination with the least loss; one that has no rival is not run."""
        chosen = 0
        if math.prod(len(candidates) for candidates in choices.values()) > 1:
            losses = combined_losses(window, choices)
            chosen = min(range(len(losses)), key=losses.__getitem__)
            data = {"blocks": list(choices), "losses": losses, "chosen": chosen}
            yield Note(name="moe-i2-prune.field", data=data)
        yield from combination(window, choices, chosen)
