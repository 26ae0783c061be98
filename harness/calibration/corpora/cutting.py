"""What the samplers share: documents to token ids, ids to rows of one length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAP_BATCH = 1000
"""Documents per batch of `datasets.Dataset.map`, after each of which the authors drop a rest."""


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


def shuffled(count: int, seed: int) -> list[int]:
    """The numbers below `count` in the order of `datasets.Dataset.shuffle(seed)`."""
    # The order is that of the library, whatever its generator is.
    from datasets import Dataset

    order = Dataset.from_dict({"index": list(range(count))}).shuffle(seed=seed)
    return [int(i) for i in order["index"]]


def permuted(count: int, seed: int | None) -> list[int]:
    """The numbers below `count` in an order of our own; as they are without a seed."""
    if seed is None:
        return list(range(count))
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return order


def first(rows: list[list[int]], sequences: int, length: int, name: str) -> Tensor:
    """The first rows, int64 [sequences, length].

    Raises:
        UserError: there are fewer.
    """
    check(len(rows), sequences, length, name)
    # [sequences, length]
    return torch.tensor(rows[:sequences], dtype=torch.int64).reshape(sequences, length)


def check(found: int, sequences: int, length: int, name: str) -> None:
    """Raise a UserError where fewer sequences were found than asked for."""
    if found < sequences:
        raise UserError(
            f"{name} gives {found} calibration sequences of {length} tokens and {sequences} "
            "were asked for; lower the sequences or the length, or take more text."
        )
