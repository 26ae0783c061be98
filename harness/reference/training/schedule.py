"""The training recipe: schedules counted in steps, never in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

BASIC_KINDS = ("repeat", "pairs")
MATCHING_KINDS = ("drill:boolq", "drill:rte", "drill:letter", "drill:mmlu")


@dataclass(frozen=True)
class Schedule:
    """Everything a training run depends on besides the world and the architecture."""

    seed: int = 0
    steps: int = 2200
    stop: int = 2200
    tokens: int = 3072
    rate: float = 3e-3
    matrix_rate: float = 0.02
    warm_up: int = 100
    flat: float = 0.4
    floor: float = 0.03
    balance: float = 0.01
    loudness: float = 0.05
    passed: float = 0.8
    basics_limit: float = 0.2
    matching_limit: float = 0.5
    ramp: int = 500
    long: float = 0.45
    expert_steps: int = 600
    expert_balance: float = 0.01
    expert_songs: float = 0.25
    domains: float = 0.05
    reserved: float = 0.375

    def rate_scale(self, step: int) -> float:
        """Warm-up, flat, then linear decay."""
        left = (self.steps - step) / self.steps
        decay = self.floor + (1 - self.floor) * min(1.0, left / (1 - self.flat))
        return min(1.0, (step + 1) / self.warm_up) * decay


@dataclass
class TrainingProgress:
    """The stage that training is in, from running accuracies on the answers it reads."""

    recipe: Schedule
    stage: int = 0
    blend: float = 0.0
    accuracy: dict[str, float] = field(default_factory=dict)
    passed_at: list[int] = field(default_factory=list)

    def observe(self, kind: str, correct: float, count: int) -> None:
        """Fold in the accuracy of one batch on one kind of answer."""
        share = 1 - 0.97 ** min(count, 30)
        before = self.accuracy.get(kind, 0.0)
        self.accuracy[kind] = before + share * (correct - before)

    def advance(self, step: int) -> None:
        """Move to the next stage when a skill has formed or its time is over; blend on."""
        recipe, limits = self.recipe, (self.recipe.basics_limit, self.recipe.matching_limit)
        skills = (BASIC_KINDS, MATCHING_KINDS)
        if self.stage < len(skills):
            formed = min(self.accuracy.get(k, 0.0) for k in skills[self.stage]) > recipe.passed
            if formed or step >= limits[self.stage] * recipe.steps:
                self.stage += 1
                self.passed_at.append(step)
        ceiling = (0.0, 0.5, 1.0)[self.stage]
        self.blend = min(ceiling, self.blend + 1 / recipe.ramp)

    def length(self, step: int) -> int:
        """Tokens in a row."""
        if self.stage == 0:
            return 64
        return 128 if step < self.recipe.long * self.recipe.steps else 256
