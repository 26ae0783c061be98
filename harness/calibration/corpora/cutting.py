"""Cutting, which all samplers share: documents to token ids, ids to rows of one length."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAP_BATCH = 1000
"""Documents per batch of `datasets.Dataset.map`, after each of which the authors drop a rest."""


@dataclass(frozen=True)
class Draw:
    """A request for calibration sequences."""

    sequences: int | None
    """Rows; None for all that there are, or for the authors' share of them."""
    length: int
    """Tokens per row."""
    seed: int | None = None
    """None for the first rows in the order of the text, where the procedure draws nothing."""
    name: str = "the text"
    """The documents, as errors call them."""

    @property
    def count(self) -> int:
        """The number of rows, for procedures that cannot give all there are.

        Raises:
            ValueError: all were asked for.
        """
        if self.sequences is None:
            raise ValueError(f"{self.name}: this sampler needs a number of sequences")
        return self.sequences

    def generator(self) -> random.Random:
        """Python's generator, which most authors draw from; without a seed as with 0."""
        return random.Random(self.seed or 0)  # noqa: S311  (the authors' generator)


def tokenised(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any
) -> list[list[int]]:
    """The token ids of every text, with the tokenizer's defaults unless `options` say otherwise."""
    if not texts:
        return []
    # verbose=False: the warning on texts longer than the model's limit is about whole documents.
    encoded = tokenizer(texts, return_attention_mask=False, verbose=False, **options)
    return [list(ids) for ids in encoded["input_ids"]]


def concatenated(tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any) -> list[int]:
    """The token ids of all texts, one after the other."""
    return list(chain.from_iterable(tokenised(tokenizer, texts, **options)))


def batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of `size` consecutive texts; the last may be shorter."""
    items = iter(texts)
    while batch := list(islice(items, size)):
        yield batch


def cut(ids: list[int], length: int) -> list[list[int]]:
    """Consecutive rows; a rest shorter than `length` is dropped."""
    return [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)]


def shuffled(count: int, draw: Draw) -> list[int]:
    """The numbers below `count` in the order of `datasets.Dataset.shuffle(seed)`."""
    # The order is that of the library, whatever its generator is.
    from datasets import Dataset

    order = Dataset.from_dict({"index": list(range(count))}).shuffle(seed=draw.seed or 0)
    return [int(i) for i in order["index"]]


def permuted(count: int, seed: int | None) -> list[int]:
    """The numbers below `count` in an order of our own; as they are without a seed."""
    if seed is None:
        return list(range(count))
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return order


def first(rows: list[list[int]], draw: Draw) -> Tensor:
    """The first rows, int64 [sequences, length].

    Raises:
        UserError: there are fewer.
    """
    check(len(rows), draw.count, draw)
    # [sequences, length]
    return torch.tensor(rows[: draw.count], dtype=torch.int64).reshape(draw.count, draw.length)


def check(rows: int, wanted: int, draw: Draw) -> None:
    """Raise a UserError where there are fewer rows than wanted."""
    if rows < wanted:
        raise UserError(
            f"{draw.name} gives {rows} calibration sequences of {draw.length} tokens and {wanted} "
            "were asked for; lower the sequences or the length, or take more text."
        )
