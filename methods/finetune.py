"""Fine-tuning after compression: LoRA, merged."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import ClassVar, Literal, NoReturn

import torch
from pydantic import Field
from torch import Tensor

from harness.method import (
    PARTS,
    Calibration,
    Edit,
    Method,
    MoEModel,
    Note,
    Part,
    Refused,
    SetWeights,
    TargetsOrRouter,
)
from harness.method.training.adapters import Adapters
from harness.method.training.checkout import changes
from harness.method.training.lessons import Lessons


class Finetune(Method):
    """LoRA (Hu et al. 2022, arXiv 2106.09685) on the compressed model, merged into its weights.

    AdamW on the cross-entropy of the calibration's answers, or of all its tokens where it tells
    none apart; mean over the answers of `batch_size` rows, computed in batches of the
    calibration's own size. Factors of low-rank matrices are targets like any other matrix. The
    router's auxiliary loss is off.

    Settings of the papers. MoE-I² (Yang et al. 2024): Alpaca with 50,000 rows, 2 epochs, batches
    of 64, learning rate 3e-4 to 5e-4; rank, alpha, targets and schedule are not given. C-MoE (He
    et al. 2024), Mixtral: Alpaca-GPT4, 3 epochs, batches of 32, learning rate 2e-5, cosine, rank
    32; its list of targets finds only the attention in Mixtral. SVD-LLM: alpaca-cleaned, rank 8,
    learning rate 1e-4, batches of 64; there the U factors are trained first, then the V factors,
    here both at once.

    Deviations: dropout does not reach fused experts, which PEFT cannot give any. When a loss,
    gradient or weight is not finite, training stops and the last state with a finite loss is kept;
    a model whose first loss is not finite is refused.
    """

    name: ClassVar[str] = "finetune"
    reference: ClassVar[str] = "Hu et al. 2022, arXiv 2106.09685: W + alpha / rank B A"

    targets: TargetsOrRouter = frozenset({"experts", "shared", "dense", "attention"})
    """Parts of the blocks that are trained."""
    rank: int = Field(default=8, ge=1)
    """Rank of every adapter."""
    alpha: float = Field(default=16.0, gt=0)
    """Scale of the adapters: W + alpha / rank B A."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the inputs of the adapters of linear layers."""
    epochs: float = Field(default=2.0, gt=0)
    """Number of passes over the rows; not used when `steps` is given."""
    steps: int | None = Field(default=None, ge=1)
    """Number of steps of the optimiser; None for what `epochs` comes to."""
    batch_size: int = Field(default=64, ge=1)
    """Number of rows per step of the optimiser."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Learning rate of AdamW after the warm-up."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Schedule of the learning rate after the warm-up: down to 0, or level."""
    warmup: float = Field(default=0.03, ge=0, le=1)
    """Fraction of the steps in which the learning rate rises to its full value."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; None does not clip."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield `finetune.losses` (one per step) and one SetWeights per block with a target."""
        parts: tuple[Part, ...] = tuple(part for part in PARTS if part in self.targets)
        every = {b.index: tuple(m.name for m in b.matrices(*parts)) for b in model.blocks}
        chosen = {index: names for index, names in every.items() if names}
        if not chosen:
            raise Refused(f"{model.ref} has no {' or '.join(sorted(self.targets))} left to train.")
        if not calibration.tokens.sequences or model.device.type == "meta":
            for index, names in chosen.items():
                yield SetWeights(block=index, matrices=names)
            return
        lessons = Lessons(calibration.tokens)
        # PEFT draws the adapters, and torch the dropout, from the global generators.
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(self.seed)
            adapters = Adapters(
                model, chosen, rank=self.rank, alpha=self.alpha, dropout=self.dropout
            )
            losses, finite = self._train(adapters, lessons, calibration.batch_size)
        if not losses:
            _refuse(model, calibration)
        yield Note(name="finetune.losses", data=losses)
        if not finite:
            step = len(losses) + 1
            warnings.warn(
                f"finetune: not finite at step {step}; kept the state before", stacklevel=2
            )
            yield Note(name="finetune.stopped", data={"step": step})
        yield from changes(model, adapters.merged())

    def _train(self, adapters: Adapters, lessons: Lessons, micro: int) -> tuple[list[float], bool]:
        """Train in place.

        Returns:
            The mean loss (nats) of every step that went well, and True if all did.
        """
        trained = adapters.trained()
        total = self._total(len(lessons.rows))
        optimizer = torch.optim.AdamW(
            trained, lr=self.learning_rate, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: self._rate(n, total))
        generator = torch.Generator().manual_seed(self.seed)
        losses: list[float] = []
        good = [parameter.detach().clone() for parameter in trained]
        for rows in islice(lessons.draw(self.batch_size, generator), total):
            optimizer.zero_grad()
            loss = self._gradients(adapters, lessons, rows, micro)
            norm = torch.nn.utils.clip_grad_norm_(trained, self.clip or math.inf)
            if not (math.isfinite(loss) and math.isfinite(float(norm))):
                _restore(trained, good)
                return losses, False
            losses.append(loss)
            good = [parameter.detach().clone() for parameter in trained]
            optimizer.step()
            schedule.step()
        if not all(bool(parameter.isfinite().all()) for parameter in trained):
            _restore(trained, good)
            return losses, False
        return losses, True

    def _gradients(self, adapters: Adapters, lessons: Lessons, rows: Tensor, micro: int) -> float:
        """Add up the gradients of the mean loss over these rows; the loss."""
        count, mean = lessons.count(rows), 0.0
        for part in rows.split(micro):  # type: ignore[no-untyped-call]
            loss = lessons.loss(adapters.lm, part) / count
            loss.backward()  # type: ignore[no-untyped-call]
            mean += float(loss.detach())
        return mean

    def _total(self, rows: int) -> int:
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * math.ceil(rows / self.batch_size)))

    def _rate(self, step: int, total: int) -> float:
        """The factor on the learning rate at a step, from 0."""
        warm = round(self.warmup * total)
        if step < warm:
            return (step + 1) / warm
        done = (step - warm) / max(1, total - warm)
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        return 1 - done if self.schedule == "linear" else 1.0


def _refuse(model: MoEModel, calibration: Calibration) -> NoReturn:
    """Say why there is no first step: the block that overflows, or else the gradients.

    Raises:
        Refused: always.
    """
    for part in calibration.split():
        part.hidden_states(model)
    raise Refused(
        "the loss or its gradient is not finite at the first step; lower learning_rate, or set "
        "dtype to bfloat16 or float32."
    )


def _restore(parameters: list[torch.nn.Parameter], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data = value
