"""How calibration sequences are cut from documents: the authors' procedures and our own.

Every sampler takes documents and a tokenizer and returns int64 [sequences, length], always full
rows. `name` is what its errors call the documents.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Sampler = Callable[..., Tensor]

MAP_BATCH = 1000
"""Documents per batch of `datasets.Dataset.map`, after each of which the authors drop a rest."""


def eep(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    sequences: int,
    length: int,
    seed: int = 42,
    name: str = "the text",
) -> Tensor:
    """EEP's calibration loader (Lu et al. 2024, Expert_Sparsity `build_calib_loader`).

    The documents in the order of `datasets.Dataset.shuffle(seed)`, the first 16 * sequences of
    them, tokenised with the tokenizer's defaults (a BOS per document where it adds one),
    concatenated per batch of 1,000 documents and cut; the rest of a batch is dropped only when
    the batch gave a row; the first `sequences` rows.

    The authors ask for one row more than they use; this does not.

    Raises:
        UserError: too few rows, or a batch shorter than `length` among those to be used.
    """
    documents = list(texts)
    chosen = [documents[i] for i in _shuffled(len(documents), seed)[: 16 * sequences]]
    rows: list[list[int]] = []
    for batch in _batches(chosen, MAP_BATCH):
        ids = _concatenated(tokenizer, batch)
        # A batch without one whole row stays as a row of its own, as the authors' code leaves it;
        # they cannot run with such a row among the first, and neither is it used here.
        rows += _cut(ids, length) if len(ids) >= length else [ids]
    whole = list(takewhile(lambda row: len(row) == length, rows))
    return _first(whole, sequences, length, name)


def c_moe(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    sequences: int,
    length: int,
    seed: int = 0,
    name: str = "the text",
) -> Tensor:
    """C-MoE's calibration data with `data_type pt` (He et al. 2024, LLaMA-Factory pre-training).

    The documents in file order, each followed by the EOS token and tokenised without special
    tokens (no BOS), concatenated per batch of 1,000 documents and cut, the rest of each batch
    dropped; the first `sequences` rows. Nothing is drawn: `seed` changes nothing.

    Raises:
        UserError: too few rows, or a tokenizer without an EOS token.
    """
    eos = tokenizer.eos_token
    if not isinstance(eos, str):
        raise UserError(
            f"calibration 'c-moe' ends every document of {name} with the EOS token and the "
            "tokenizer has none; take another calibration."
        )
    rows: list[list[int]] = []
    for batch in _batches(texts, MAP_BATCH):
        ended = [text + eos for text in batch]
        rows += _cut(_concatenated(tokenizer, ended, add_special_tokens=False), length)
        if len(rows) >= sequences:
            break
    return _first(rows, sequences, length, name)


def wanda(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    sequences: int,
    length: int,
    seed: int = 0,
    name: str = "the text",
) -> Tensor:
    """Wanda's C4 loader (Sun et al. 2024, `get_c4`; SparseGPT and GPTQ draw alike).

    From Python's `random` with this seed, for every row: documents, each any of them, until one
    has more than `length` tokens (tokenizer's defaults), then the start of the window, from 0 to
    tokens - length - 1 inclusive.

    Raises:
        UserError: no document has more than `length` tokens, where the authors' loop never ends.
    """
    documents = list(texts)
    draw = random.Random(seed)  # noqa: S311  (the authors' generator)
    tokenised: dict[int, list[int]] = {}
    rows: list[list[int]] = []
    while len(rows) < sequences:
        if not rows and len(tokenised) == len(documents):
            raise UserError(
                f"no document of {name} has more than {length} tokens, the length of a "
                "calibration sequence; lower the length."
            )
        index = draw.randint(0, len(documents) - 1)
        if index not in tokenised:
            ids = _tokenised(tokenizer, [documents[index]])[0]
            tokenised[index] = ids if len(ids) > length else []
        ids = tokenised[index]
        if ids:
            start = draw.randint(0, len(ids) - length - 1)
            rows.append(ids[start : start + length])
    return _first(rows, sequences, length, name)


def packed(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    sequences: int,
    length: int,
    seed: int | None = None,
    name: str = "the text",
) -> Tensor:
    """All documents in order, tokenised with the tokenizer's defaults, joined and cut.

    Without a seed the first rows; with one, rows drawn without replacement, so that fewer
    sequences of the same seed are the beginning of more. The rest shorter than `length` is
    dropped.

    Raises:
        UserError: too few rows.
    """
    ids = [i for batch in _batches(texts, MAP_BATCH) for i in _concatenated(tokenizer, batch)]
    return _first(_drawn(_cut(ids, length), seed), sequences, length, name)


def document_rows(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    sequences: int,
    length: int,
    seed: int | None = None,
    name: str = "the text",
) -> Tensor:
    """As `packed`, but every row starts where a document starts.

    A row is filled with the documents that follow and truncated at `length`; the next row starts
    at the next document, so no token occurs twice and the end of a truncated document not at all.
    The reference models are trained on such rows.

    Raises:
        UserError: too few rows.
    """
    rows: list[list[int]] = []
    row: list[int] = []
    for batch in _batches(texts, MAP_BATCH):
        for ids in _tokenised(tokenizer, batch):
            row += ids
            if len(row) >= length:
                rows.append(row[:length])
                row = []
    return _first(_drawn(rows, seed), sequences, length, name)


SAMPLERS: dict[str, Sampler] = {
    "eep": eep,
    "c-moe": c_moe,
    "wanda": wanda,
    "packed": packed,
    "documents": document_rows,
}


def _tokenised(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any
) -> list[list[int]]:
    # verbose=False: the warning on texts longer than the model's limit is about whole documents.
    encoded = tokenizer(texts, return_attention_mask=False, verbose=False, **options)
    return [list(ids) for ids in encoded["input_ids"]]


def _concatenated(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any
) -> list[int]:
    return list(chain.from_iterable(_tokenised(tokenizer, texts, **options)))


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    items = iter(texts)
    while batch := list(islice(items, size)):
        yield batch


def _cut(ids: list[int], length: int) -> list[list[int]]:
    return [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)]


def _shuffled(count: int, seed: int) -> list[int]:
    # The order is that of the library, whatever its generator is.
    from datasets import Dataset

    order = Dataset.from_dict({"index": list(range(count))}).shuffle(seed=seed)
    return [int(i) for i in order["index"]]


def _drawn(rows: list[list[int]], seed: int | None) -> list[list[int]]:
    if seed is None:
        return rows
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return [rows[i] for i in order.tolist()]


def _first(rows: list[list[int]], sequences: int, length: int, name: str) -> Tensor:
    if len(rows) < sequences:
        raise UserError(
            f"{name} gives {len(rows)} calibration sequences of {length} tokens and {sequences} "
            "were asked for; lower the sequences or the length, or take more text."
        )
    # [sequences, length]
    return torch.tensor(rows[:sequences], dtype=torch.int64).reshape(sequences, length)
