"""Training on calibration tokens: the rows, the tokens trained on, and the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import Refused

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.calibration.tokens import Tokens


class Lessons:
    """Rows to train on, in batches.

    Args:
        tokens: Calibration tokens. Their `answers` are trained on, or all valid tokens where there
            are none; never a row's first token, which nothing predicts.

    Raises:
        Refused: no token is left to train on.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.ids = tokens.input_ids
        valid = tokens.attention_mask
        valid = torch.ones_like(self.ids, dtype=torch.bool) if valid is None else valid
        targets = valid if tokens.answers is None else tokens.answers
        self.targets = targets.clone()  # bool [sequences, length]
        self.targets[:, 0] = False
        self.lengths = valid.sum(1)  # [sequences]
        self.rows = self.targets.any(1).nonzero().flatten()
        if not len(self.rows):
            raise Refused(f"calibration {tokens.ref!r} has no token to train on.")

    def draw(self, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield batches of row numbers without end, int64, shuffled anew every epoch.

        The last batch of an epoch may be short.
        """
        while True:
            order = torch.randperm(len(self.rows), generator=generator)
            yield from self.rows[order].split(batch_size)  # type: ignore[no-untyped-call]

    def loss(self, lm: PreTrainedModel, rows: Tensor) -> Tensor:
        """Return the cross-entropy in nats, summed over the tokens trained on of these rows.

        No auxiliary loss: it cannot count experts that differ in number from block to block. No
        attention mask: padding is on the right, where no valid token looks.
        """
        length = int(self.lengths[rows].max())
        device = lm.device
        ids, targets = self.ids[rows, :length].to(device), self.targets[rows, :length].to(device)
        hidden = lm.model(input_ids=ids, use_cache=False).last_hidden_state
        before = hidden[:, :-1][targets[:, 1:]]  # [targets, hidden]
        logits = lm.lm_head(before).float()
        return F.cross_entropy(logits, ids[targets], reduction="sum")

    def count(self, rows: Tensor) -> int:
        """Return the number of tokens of these rows that are trained on."""
        return int(self.targets[rows].sum())
