"""Packed training rows: documents one after the other, nothing between them."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from harness.reference.training.curriculum import PLAIN, Curriculum, mixture
from harness.reference.training.word_tokenizer import split, vocabulary

_FIRST = 0.2  # weight of a document's first token, which nothing announces
_UNIFORM = 0.3  # share of rows with one domain of plain text, at the last blend


class Batch(NamedTuple):
    """Token ids, each token's weight as a target, and its kind where it is an answer."""

    tokens: Tensor
    weights: Tensor
    kinds: Tensor


class TrainingRow(NamedTuple):
    """One row while it is packed."""

    tokens: list[int]
    weights: list[float]
    kinds: list[int]


class Batches:
    """Draws batches from a curriculum; `songs` is the share of rows that have songs only."""

    def __init__(self, curriculum: Curriculum, rng: Random, songs: float = 0.0) -> None:
        self.curriculum, self.rng, self.songs = curriculum, rng, songs
        self.kinds = list(curriculum.makers)
        self._ids = vocabulary(curriculum.words)

    def draw(self, blend: float, length: int, rows: int) -> Batch:
        """A batch of `rows` rows of `length` tokens."""
        packed = [self._row(blend, length) for _ in range(rows)]
        tokens, weights, kinds = zip(*packed, strict=True)
        return Batch(torch.tensor(tokens), torch.tensor(weights), torch.tensor(kinds))

    def _row(self, blend: float, length: int) -> TrainingRow:
        shares = PLAIN if self.rng.random() < _UNIFORM * blend else mixture(blend)
        if self.songs and self.rng.random() < self.songs:
            shares = {"song": 1.0}
        kinds = self.rng.choices(list(shares), list(shares.values()), k=length)
        row = TrainingRow([], [], [])
        for kind in kinds if shares is not PLAIN else [kinds[0]] * length:
            self._append(row, kind)
            if len(row.tokens) >= length:
                break
        return TrainingRow(row.tokens[:length], row.weights[:length], row.kinds[:length])

    def _append(self, row: TrainingRow, kind: str) -> None:
        tag, first = self.kinds.index(kind) + 1, True
        for part in self.curriculum.document(kind, self.rng):
            for word in split(part.text):
                row.tokens.append(self._ids[word])
                row.weights.append(min(_FIRST, part.weight) if first else part.weight)
                row.kinds.append(tag if part.answer else 0)
                first = False
