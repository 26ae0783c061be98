"""Samplers, which cut calibration sequences from documents: the authors' procedures and our own.

Every sampler takes documents, a tokenizer and a draw, and returns int64 [sequences, length], always
full rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import TYPE_CHECKING

from torch import Tensor

from harness.calibration.corpora.cutting import (
    MAP_BATCH,
    Draw,
    batches,
    concatenated,
    cut,
    first,
    permuted,
    shuffled,
    tokenised,
)
from harness.calibration.corpora.joined_samplers import m_smoe, pile, svd_llm, windows
from harness.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Sampler = Callable[[Iterable[str], "PreTrainedTokenizerBase", Draw], Tensor]


def eep(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
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
    chosen = [documents[i] for i in shuffled(len(documents), draw)[: 16 * draw.count]]
    rows: list[list[int]] = []
    for batch in batches(chosen, MAP_BATCH):
        ids = concatenated(tokenizer, batch)
        # A batch without one whole row stays as a row of its own, as the authors' code leaves it;
        # they cannot run with such a row among the first, and neither is it used here.
        rows += cut(ids, draw.length) if len(ids) >= draw.length else [ids]
    whole = list(takewhile(lambda row: len(row) == draw.length, rows))
    return first(whole, draw)


def math(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
) -> Tensor:
    """EEP's MATH calibration (`math_calib_construction`): as `eep`, of documents shuffled before.

    The documents are shuffled by Python's `random` with seed 42, whatever the draw's is. The
    authors shuffle the order in which their file system lists the files, which is no one else's.

    Raises:
        UserError: as `eep` does.
    """
    documents = list(texts)
    random.Random(42).shuffle(documents)  # noqa: S311  (the authors' generator)
    return eep(documents, tokenizer, draw)


def c_moe(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
) -> Tensor:
    """C-MoE's calibration data with `data_type pt` (He et al. 2024, LLaMA-Factory pre-training).

    The documents in file order, each followed by the EOS token and tokenised without special
    tokens (no BOS), concatenated per batch of 1,000 documents and cut, the rest of each batch
    dropped; the first `sequences` rows. Nothing is drawn: the seed changes nothing.

    Raises:
        UserError: too few rows, or a tokenizer without an EOS token.
    """
    eos = tokenizer.eos_token
    if not isinstance(eos, str):
        raise UserError(
            f"calibration 'c-moe' ends every document of {draw.name} with the EOS token and the "
            "tokenizer has none; take another calibration."
        )
    rows: list[list[int]] = []
    for batch in batches(texts, MAP_BATCH):
        ended = [text + eos for text in batch]
        rows += cut(concatenated(tokenizer, ended, add_special_tokens=False), draw.length)
        if len(rows) >= draw.count:
            break
    return first(rows, draw)


def wanda(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
) -> Tensor:
    """Wanda's C4 loader (Sun et al. 2024, `get_c4`; SparseGPT and GPTQ draw alike).

    From Python's `random` with this seed, for every row: documents, each any of them, until one
    has more than the length (tokenizer's defaults), then the start of the window, from 0 to
    tokens - length - 1 inclusive.

    Raises:
        UserError: no document has more than `length` tokens, where the authors' loop never ends.
    """
    documents = list(texts)
    generator = draw.generator()
    known: dict[int, list[int]] = {}
    rows: list[list[int]] = []
    while len(rows) < draw.count:
        if not rows and len(known) == len(documents):
            raise UserError(
                f"no document of {draw.name} has more than {draw.length} tokens, the length of a "
                "calibration sequence; lower the length."
            )
        index = generator.randint(0, len(documents) - 1)
        if index not in known:
            ids = tokenised(tokenizer, [documents[index]])[0]
            known[index] = ids if len(ids) > draw.length else []
        ids = known[index]
        if ids:
            start = generator.randint(0, len(ids) - draw.length - 1)
            rows.append(ids[start : start + draw.length])
    return first(rows, draw)


def joined(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
) -> Tensor:
    """All documents in order, tokenised with the tokenizer's defaults, joined and cut.

    Without a seed the first rows; with one, rows drawn without replacement, so that fewer
    sequences of the same seed are the beginning of more. The rest shorter than `length` is
    dropped.

    Raises:
        UserError: too few rows.
    """
    ids = [i for batch in batches(texts, MAP_BATCH) for i in concatenated(tokenizer, batch)]
    return first(_drawn(cut(ids, draw.length), draw), draw)


def document_rows(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
) -> Tensor:
    """As `joined`, but every row starts where a document starts.

    A row is filled with the documents that follow and truncated at `length`; the next row starts
    at the next document, so no token occurs twice and the end of a truncated document not at all.
    The reference models are trained on such rows.

    Raises:
        UserError: too few rows.
    """
    rows: list[list[int]] = []
    row: list[int] = []
    for batch in batches(texts, MAP_BATCH):
        for ids in tokenised(tokenizer, batch):
            row += ids
            if len(row) >= draw.length:
                rows.append(row[: draw.length])
                row = []
    return first(_drawn(rows, draw), draw)


SAMPLERS: dict[str, Sampler] = {
    "eep": eep,
    "c-moe": c_moe,
    "wanda": wanda,
    "joined": joined,
    "documents": document_rows,
    "math": math,
    "windows": windows,
    "svd-llm": svd_llm,
    "pile": pile,
    "m-smoe": m_smoe,
}


def _drawn(rows: list[list[int]], draw: Draw) -> list[list[int]]:
    return [rows[i] for i in permuted(len(rows), draw.seed)]
