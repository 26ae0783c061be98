"""C-MoE Block Drop: whole blocks that change the hidden states least."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor

from harness.method import Calibration, DropBlock, DropBudget, Edit, Method, MoEModel, Note


class BlockDrop(DropBudget, Method):
    """Block Drop (He et al. 2024, arXiv 2406.02500, section 3.4).

    s(i, n) is the mean cosine similarity, over calibration tokens of the original model, of the
    hidden states entering block i and those leaving block i + n - 1. `discrete` drops the n blocks
    with the highest s(i, 1); `consecutive` drops the n blocks from the i with the highest s(i, n).

    Deviations: the authors' `consecutive` scores n + 1 blocks when it drops n (an index off by
    one); here it scores what it drops. States are held for one calibration batch at a time.
    `rescore` is ours.
    """

    name: ClassVar[str] = "block-drop"
    reference: ClassVar[str] = "He et al. 2024, arXiv 2406.02500: highest mean cos(H_i, H_{i+n})"

    mode: Literal["discrete", "consecutive"] = "discrete"
    """Blocks that go: single ones anywhere ("discrete"), or one run of them ("consecutive")."""
    rescore: bool = False
    """Discrete: drop one block at a time, and take the similarities of those left again, through
    the model as it is, after each: one pass per block dropped."""
    off_by_one: bool = False
    """Compatibility, consecutive: choose the run by s(i, n + 1). C-MoE's index counts one block too
    many, and the last run can never be chosen; for matching its rows only."""

    @model_validator(mode="after")
    def _fits_mode(self) -> Self:
        if self.rescore and self.mode == "consecutive":
            raise ValueError("consecutive drops its blocks at once; rescore needs discrete")
        if self.off_by_one and self.mode == "discrete":
            raise ValueError("off_by_one is about consecutive; discrete has no such index")
        return self

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield the similarities, and DropBlock, most similar first (consecutive: in order)."""
        blocks = model.numbers
        count = self.dropped(len(blocks), "blocks", most=len(blocks) - 1)
        similarity = block_similarity(model, calibration)
        yield Note(name="block-drop.similarity", data=similarity.tolist())
        if self.mode == "consecutive":
            first = int(similarity.diagonal(count + self.off_by_one).argmax())
            for block in blocks[first : first + count]:
                yield DropBlock(block=block)
            return
        similar = dict(zip(blocks, similarity.diagonal(1).tolist(), strict=True))
        for place in range(count):
            if self.rescore and place:
                singles = block_similarity(model, calibration).diagonal(1).tolist()
                similar = dict(zip(model.numbers, singles, strict=True))
            yield DropBlock(block=max(model.numbers, key=similar.__getitem__))


def block_similarity(model: MoEModel, calibration: Calibration) -> Tensor:
    """Return the mean cosine of hidden states H_i and H_j over valid tokens.

    fp64 [blocks + 1, blocks + 1].

    H_0 enters the first block left, the last leaves the last one. Zero below the diagonal, and
    everywhere when there are no tokens.
    """
    points = len(model.numbers) + 1
    total = torch.zeros(points, points, dtype=torch.float64)
    tokens = 0
    for part in calibration.split():
        states = part.hidden_states(model)  # points x [tokens, hidden]
        tokens += len(states[0])
        for i, early in enumerate(states):
            for j in range(i + 1, points):
                cosine = F.cosine_similarity(early.double(), states[j].double(), dim=-1)
                total[i, j] += cosine.sum().cpu()
    return total / max(tokens, 1)
