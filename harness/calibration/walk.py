"""Calibration: tokens, and the walk that shows a method one block after the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.calibration.cache import StatisticCache
from harness.calibration.observe import observe
from harness.calibration.states import States, Trace, digest
from harness.calibration.statistic import Statistic
from harness.calibration.statistics.outputs import Outputs
from harness.calibration.statistics.routing import TokenCount
from harness.calibration.tokens import Tokens
from harness.code.reach import code_sha256
from harness.model.edits import Edit
from harness.model.finite import is_finite, refusal
from harness.model.versions import Version
from harness.model.view import Block, MoEModel

Follow = Literal["edited", "original", "both"]
S = TypeVar("S", bound=Statistic)


class LiveBlock(Block):
    """A block that a walk is at, with the states that enter it.

    Attributes:
        original: This block and its inputs as the walk versions them (follow="both").
    """

    def __init__(
        self,
        calibration: Calibration,
        model: MoEModel,
        index: int,
        inputs: States,
        pinned: tuple[Version, str] | None = None,
    ) -> None:
        super().__init__(model, index, pinned[0] if pinned else None)
        self.inputs = inputs
        self.original: LiveBlock = self
        self._calibration = calibration
        self._pinned_key = pinned[1] if pinned else None
        self._ran: tuple[Version, list[Tensor]] | None = None

    @property
    def key(self) -> str:
        """Provenance of the block and of the states that enter it."""
        return digest(self.inputs.key, self._own_key)

    def collect(self, statistic: S, *more: Statistic) -> S:
        """Take the statistics in one run over `inputs`; cached ones cost none.

        The tokens each expert saw are counted along the way.

        Raises:
            Refused: what leaves the block, or a statistic, is not finite.
        """
        wanted: list[Statistic] = [statistic, *more]
        if self.experts and self.index not in self._calibration.coverage:
            wanted.append(self._calibration.cover(self.index))
        identities = {id(one): one.identity() for one in wanted}
        keys = {
            number: digest(self.key, _engine(), identity)
            for number, identity in identities.items()
            if identity is not None
        }
        kept = self._calibration.cache
        missing = []
        for one in wanted:
            one.start(self)
            if id(one) not in keys or not kept.restore(one, keys[id(one)]):
                missing.append(one)
        if missing:
            self._observe(missing)
            for one in missing:
                if id(one) in keys:
                    kept.keep(one, keys[id(one)])
        for one in wanted:
            if isinstance(one, Outputs):
                one.key = self.key
        return statistic

    def run(self, inputs: States, *edits: Edit) -> States:
        """The block's output with these edits; changes nothing."""
        version = self._edited(*edits)
        if version is None:
            return inputs
        what = digest(self._own_key, *(str(edit.data()) for edit in edits))
        return inputs.through(self.index, version, what)

    def edited(self, *edits: Edit) -> nn.Module | None:
        """The decoder layer with these edits, on a shell; None where they drop the block."""
        version = self._edited(*edits)
        return None if version is None else version.load()

    def _edited(self, *edits: Edit) -> Version | None:
        version: Version | None = self.version
        for edit in edits:
            version = version.edited(edit, self.model.family) if version is not None else None
        return version

    def outputs(self) -> States:
        """The states that leave the block as it is now; what `collect` ran is not run again."""
        version = self.version
        after = self.inputs.through(self.index, version, self._own_key)

        def make() -> list[Tensor]:
            ran = self._ran
            return ran[1] if ran is not None and ran[0] is version else after.batches

        return States(after.key, after.trace, make, after.after)

    @property
    def _own_key(self) -> str:
        return self._pinned_key or self.model.key(self.index)

    def _observe(self, statistics: Sequence[Statistic]) -> None:
        trace, outputs = self.inputs.trace, []
        for batch, hidden in enumerate(self.inputs.batches):
            arguments = trace.arguments(batch, self.index)
            output, seen = observe(self, batch, hidden, arguments, trace.valid(batch))
            for statistic in statistics:
                statistic.update(seen)
            outputs.append(output)
        for statistic in statistics:
            self._check(statistic)
        self._ran = (self.version, outputs)

    def _check(self, statistic: Statistic) -> None:
        """Refuse a statistic that promises to be finite and is not."""
        if not type(statistic).finite:
            return
        looked_at: set[int] = set()  # an expert's gate and up share a tensor
        for name, tensor in statistic.taken():
            if id(tensor) in looked_at:
                continue
            looked_at.add(id(tensor))
            if not is_finite(tensor):
                what = f"block {self.index}: {type(statistic).__name__}, {name},"
                raise refusal(what, self.model.dtype)


class Calibration:
    """Tokens in batches, and the ways to look at a model through them.

    Args:
        tokens: Rows of token ids; zero rows are legal (a dry run).
        batch_size: Rows per batch. Some losses are sums over batches and depend on it.
        cache: Folder for statistics; None keeps none.
    """

    def __init__(self, tokens: Tokens, *, batch_size: int = 8, cache: Path | None = None) -> None:
        self.tokens = tokens
        self.batch_size = batch_size
        self.cache = StatisticCache(cache)
        self.key = digest(tokens.sha256, str(batch_size))
        self.coverage: dict[int, TokenCount] = {}

    def batches(self) -> Iterator[Mapping[str, Tensor]]:
        """input_ids and labels int64 [rows, length]; attention_mask bool where there is padding.

        Labels are the ids, -100 on padding.
        """
        for ids, mask in self.tokens.batches(self.batch_size):
            if mask is None:
                yield {"input_ids": ids, "labels": ids}
            else:
                labels = ids.masked_fill(~mask, -100)
                yield {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def walk(self, model: MoEModel, *, follow: Follow = "edited") -> Iterator[LiveBlock]:
        """The blocks in order, each with the states that enter it.

        Args:
            model: The model; edits made at a block are seen by the blocks after it.
            follow: Whose states advance: "edited" through the edits made so far, "original"
                through the model as the walk versions it, "both" gives `block.original` as well.
        """
        for window in self.windows(model, 1, follow=follow):
            yield from window

    def windows(
        self, model: MoEModel, size: int | Sequence[int], *, follow: Follow = "edited"
    ) -> Iterator[Sequence[LiveBlock]]:
        """Like `walk`, `size` blocks at a time.

        Within a window the states that enter a block are those before any edit to the window.

        Args:
            model: The model.
            size: Blocks per window, or those of each window in turn.
            follow: As in `walk`.
        """
        versions = model.snapshot()
        numbers = list(versions)
        edited = original = Trace(model, list(self.batches()), self.key).start()
        model.hold(1 + (size if isinstance(size, int) else max(size, default=1)))
        with model.walking() as passed:
            for group in _grouped(numbers, size):
                left = [index for index in group if index in model.numbers]
                window = live = self._chain(model, left, edited)
                if follow != "edited":
                    pins = self._chain(model, group, original, versions)
                    pinned = {pin.index: pin for pin in pins}
                    for block in live:
                        block.original = pinned[block.index]
                    if follow == "original":
                        window = [block.original for block in live]
                    yield window
                    original = pins[-1].outputs()
                else:
                    yield window
                edited = _advance(model, edited, live)
                passed.update(group)

    def _chain(
        self,
        model: MoEModel,
        group: Sequence[int],
        states: States,
        versions: Mapping[int, tuple[Version, str]] | None = None,
    ) -> list[LiveBlock]:
        """Consecutive blocks, each entered by what leaves the one before."""
        blocks = []
        for index in group:
            block = LiveBlock(self, model, index, states, versions[index] if versions else None)
            states = block.outputs()
            blocks.append(block)
        return blocks

    def hidden_states(self, model: MoEModel) -> list[Tensor]:
        """The states entering each block left and those leaving the last, valid tokens only.

        Holds all of them at once: meant for the parts that `split` gives.

        Returns:
            blocks + 1 tensors [tokens, hidden] in the model's dtype.
        """
        blocks = list(self.walk(model))
        states = [*(block.inputs for block in blocks), blocks[-1].outputs()]
        return [self._valid_rows(one) for one in states]

    def _valid_rows(self, states: States) -> Tensor:
        rows = []
        for batch, hidden in enumerate(states.batches):
            valid = states.trace.valid(batch)
            rows.append(hidden.flatten(0, 1) if valid is None else hidden[valid.to(hidden.device)])
        return torch.cat(rows)

    def losses(self, model: MoEModel, states: Sequence[States]) -> list[float]:
        """Mean token loss (nats, labels shifted by one) of each, moved on together.

        Args:
            model: Supplies the blocks after those the states have been through.
            states: As `LiveBlock.run` gives them, all leaving the same block.

        Raises:
            Refused: a loss is not finite.
        """
        current = list(states)
        for one in current:
            one.materialise()
        for index in model.numbers:
            version, key = model.version(index), model.key(index)
            current = [
                one.through(index, version, key) if index > one.after else one for one in current
            ]
            for one in current:
                one.materialise()
        return [self._loss(one) for one in current]

    def _loss(self, states: States) -> float:
        total, count = 0.0, 0
        for batch, (inputs, hidden) in enumerate(zip(self.batches(), states.batches, strict=True)):
            total += summed_loss(states.trace.logits(batch, hidden), inputs["labels"])
            count += int((inputs["labels"][:, 1:] != -100).sum())
        if not math.isfinite(total):
            raise refusal("the loss on the calibration tokens", states.trace.model.dtype)
        return total / count if count else float("nan")

    def split(self) -> Iterator[Self]:
        """Parts of one batch each, for what holds the states of all blocks at once."""
        for start in range(0, self.tokens.sequences, self.batch_size):
            rows = slice(start, start + self.batch_size)
            part = self.tokens.part(rows)
            yield type(self)(part, batch_size=self.batch_size, cache=self.cache.folder)

    def cover(self, index: int) -> TokenCount:
        """Start counting the tokens that reach the experts of a block."""
        self.coverage[index] = TokenCount()
        return self.coverage[index]


@cache
def _engine() -> str:
    """The digest of the code that opens, edits and runs what statistics see."""
    return code_sha256(
        ("harness.model.files.opening", "open_model"),
        ("harness.model.view", "MoEModel"),
        ("harness.calibration.walk", "Calibration"),
    )


def summed_loss(logits: Tensor, labels: Tensor) -> float:
    """Cross-entropy of every token but the first, nats, summed in fp64.

    Args:
        logits: [sequences, length, vocabulary].
        labels: int64 [sequences, length], not yet shifted; -100 is left out.
    """
    rows = logits[:, :-1].flatten(0, 1).float()  # [predictions, vocabulary]
    wanted = labels[:, 1:].flatten().to(rows.device)
    losses = F.cross_entropy(rows, wanted, ignore_index=-100, reduction="none")
    return float(losses.double().sum())


def _grouped(numbers: Sequence[int], size: int | Sequence[int]) -> Iterator[Sequence[int]]:
    sizes = itertools.repeat(size) if isinstance(size, int) else size
    start = 0
    for length in sizes:
        if start >= len(numbers):
            return
        yield numbers[start : start + length]
        start += length


def _advance(model: MoEModel, states: States, window: Sequence[LiveBlock]) -> States:
    """The states that leave the window, through the blocks as they are now."""
    for block in window:
        if block.index not in model.numbers:
            continue
        if block.inputs is states:
            states = block.outputs()
        else:
            version, key = model.version(block.index), model.key(block.index)
            states = states.through(block.index, version, key)
    return states
