"""Hidden states entering a block, and the arguments the model's own forward gives each block.

The model's forward is run once with its blocks replaced by recorders: masks, rotary embeddings and
multipliers are then right in every family, padding included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from harness.calibration.overflow import overflowing
from harness.model.finite import is_finite, refusal
from harness.model.versions import Version
from harness.model.view import MoEModel

Arguments = dict[str, Any]


class States:
    """Hidden states entering one block: a value, computed when first asked for.

    Args:
        key: Provenance: calibration and everything that produced the states.
        trace: What the walk recorded.
        make: Computes one tensor [sequences, length, hidden] per calibration batch.
        after: The last block the states have been through; -1 for the embeddings.
    """

    def __init__(
        self, key: str, trace: Trace, make: Callable[[], list[Tensor]], after: int = -1
    ) -> None:
        self.key = key
        self.trace = trace
        self.after = after
        self._make: Callable[[], list[Tensor]] | None = make
        self._batches: list[Tensor] = []

    @property
    def batches(self) -> list[Tensor]:
        """One tensor [sequences, length, hidden] per batch."""
        self.materialise()
        return self._batches

    def materialise(self) -> None:
        """Compute the states now."""
        if self._make is not None:
            self.settle(self._make())

    def settle(self, batches: list[Tensor]) -> None:
        """Give the states, computed elsewhere; frees those they would have been made of."""
        self._batches = batches
        self._make = None

    def through(self, index: int, version: Version, key: str) -> States:
        """The states that leave this version of block `index`."""

        def make() -> list[Tensor]:
            entering = self.batches  # first: they may come out of another block
            layer = version.load()
            return [
                run(layer, hidden, self.trace.arguments(batch, index), index)
                for batch, hidden in enumerate(entering)
            ]

        return States(digest(self.key, key), self.trace, make, after=index)


class Trace:
    """Embeddings and block arguments of all batches, recorded when first needed."""

    def __init__(self, model: MoEModel, batches: Sequence[Mapping[str, Tensor]], key: str) -> None:
        self.model = model
        self.batches = batches
        self.key = digest(key, model.sha256, str(model.dtype), model.device.type, *_how(model))
        self._embedded: list[Tensor] = []
        self._arguments: list[list[Arguments]] = []

    def start(self) -> States:
        """The states entering the first block of the base model."""

        def make() -> list[Tensor]:
            self._record()
            if not all(map(is_finite, self._embedded)):
                raise refusal("the embedding of the calibration tokens", self.model.dtype)
            return list(self._embedded)

        return States(self.key, self, make)

    def arguments(self, batch: int, index: int) -> Arguments:
        """Keyword arguments of base block `index` in this batch."""
        self._record()
        return self._arguments[batch][index]

    def valid(self, batch: int) -> Tensor | None:
        """Tokens that are not padding, bool [sequences, length]; None when all are valid."""
        mask = self.batches[batch].get("attention_mask")
        return None if mask is None else mask.bool()

    def logits(self, batch: int, hidden: Tensor) -> Tensor:
        """[sequences, length, vocabulary] from the states that leave the last block."""
        blocks = [_Replay(hidden) for _ in range(self.model.base_blocks)]
        with _replaced(self.model, blocks):
            out = self.model.frame(**self._inputs(batch), use_cache=False)
        logits: Tensor = out.logits
        return logits

    def _record(self) -> None:
        if self._arguments:
            return
        for batch in range(len(self.batches)):
            recorders = [_Recorder() for _ in range(self.model.base_blocks)]
            with _replaced(self.model, recorders):
                self.model.frame.model(**self._inputs(batch), use_cache=False)
            first = recorders[0].hidden
            if first is None:
                raise RuntimeError("the model's forward did not call its first block")
            self._embedded.append(first)
            self._arguments.append([recorder.arguments for recorder in recorders])

    def _inputs(self, batch: int) -> dict[str, Tensor]:
        device = self.model.device
        inputs = self.batches[batch]
        names = ("input_ids", "attention_mask")
        return {name: inputs[name].to(device) for name in names if name in inputs}


class _Recorder(nn.Module):
    """Stands in for a block: keeps what it was called with and passes the states on."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: Tensor | None = None
        self.arguments: Arguments = {}

    def forward(self, hidden: Tensor, **arguments: Any) -> Tensor:
        self.hidden = hidden
        self.arguments = arguments
        return hidden


class _Replay(nn.Module):
    """Stands in for a block: returns the states that left the last one."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, hidden: Tensor, **arguments: Any) -> Tensor:
        return self.hidden


@contextmanager
def _replaced(model: MoEModel, blocks: Sequence[nn.Module]) -> Iterator[None]:
    decoder = model.frame.model
    layers = decoder.layers
    decoder.layers = nn.ModuleList(blocks)
    try:
        yield
    finally:
        decoder.layers = layers


def run(layer: nn.Module, hidden: Tensor, arguments: Arguments, index: int) -> Tensor:
    """Block `index` on one batch, [sequences, length, hidden] in and out.

    Raises:
        Refused: what leaves it is not finite; the sentence names the block and its part.
    """
    out = layer(hidden, **arguments)
    result: Tensor = out[0] if isinstance(out, tuple) else out
    if not is_finite(result):
        part = overflowing(layer, hidden, arguments)
        raise refusal(f"block {index}: the output of its {part}", result.dtype)
    return result


def digest(*parts: str) -> str:
    """sha256 of the parts, in order."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _how(model: MoEModel) -> tuple[str, ...]:
    """Implementations and versions that change the last bits of a statistic."""
    import torch
    import transformers

    config = model.config
    return (
        str(getattr(config, "_attn_implementation", None)),
        str(getattr(config, "_experts_implementation", None)),
        torch.__version__,
        transformers.__version__,
    )
