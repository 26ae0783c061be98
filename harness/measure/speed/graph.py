"""Our decoding runtime with a decoding step captured in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.measure.nvml import Joules
from harness.measure.speed.runtime import Generation

WARM_UP = 3
"""Steps before the capture, in which libraries choose kernels and allocate workspaces."""

Replay = Callable[[], Tensor]


class NotCaptured(Exception):
    """A model whose decoding step cannot be captured in a CUDA graph."""


class Captured(Generation):
    """Prefills as `Generation` does, and replays one captured step for every token.

    Token, position and mask of a step are computed on the device from a position that the step
    itself moves on, so that a replay needs nothing from the host.

    Raises:
        NotCaptured: the step reads something back to the host, or does what a graph cannot hold.
    """

    runtime = "graph"

    def __init__(
        self, lm: PreTrainedModel, ids: Tensor, length: int, joules: Joules | None = None
    ) -> None:
        super().__init__(lm, ids, length, joules)
        self._position = torch.zeros(1, dtype=torch.int64, device=lm.device)
        self._places = torch.arange(ids.shape[1], device=lm.device)
        self._visible = _additive_mask(lm)
        next(super().logits())  # the cache allocates its tensors in the first prefill
        self._replay = capture(self._step, self._rewind)

    def logits(self) -> Iterator[Tensor]:
        """As of `Generation`; the tensor is overwritten by the next step."""
        self._position.fill_(self.length)
        yield next(super().logits())
        for _ in range(self.ids.shape[1] - self.length):
            yield self._replay()

    def _rewind(self) -> None:
        self.cache.reset()  # type: ignore[no-untyped-call]
        self._position.zero_()

    @torch.no_grad()
    def _step(self) -> Tensor:
        """Decode the token at the position, and move on. No host, no allocation that stays."""
        mask = self._visible(self._places <= self._position)  # [T]
        step = self.lm(
            input_ids=self.ids.index_select(1, self._position),
            position_ids=self._position.unsqueeze(0),
            attention_mask=mask.expand(len(self.ids), 1, 1, -1),  # as it is used, not as padding
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._position.add_(1)
        logits: Tensor = step.logits[:, -1]
        return logits


def _additive_mask(lm: PreTrainedModel) -> Callable[[Tensor], Tensor]:
    """A function from visible places to the mask that attention takes: booleans, or summands."""
    implementation = lm.config._attn_implementation
    if implementation == "sdpa":
        return lambda visible: visible
    if implementation == "eager":
        least = torch.finfo(lm.dtype).min
        return lambda visible: torch.zeros_like(visible, dtype=lm.dtype).masked_fill(
            ~visible, least
        )
    raise NotCaptured(f"attention {implementation} takes no mask of a static length")


def capture(step: Replay, rewind: Callable[[], None]) -> Replay:
    """Warm `step` up on a side stream and capture it; the result replays it.

    Args:
        step: Works on tensors that stay where they are.
        rewind: Brings them to a state from which `step` can be run.

    Raises:
        NotCaptured: with CUDA's reason.
    """
    if not torch.cuda.is_available():
        raise NotCaptured("there is no CUDA device")
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            rewind()
            step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    rewind()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            out = step()
    except RuntimeError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise NotCaptured(reason) from error

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay
