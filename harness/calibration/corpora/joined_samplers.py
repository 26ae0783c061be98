"""Samplers of the authors that join documents before they draw or cut.

As in `harness.calibration.corpora.samplers`, each takes documents, a tokenizer and a
draw, and returns int64 [sequences, length].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from harness.calibration.corpora.cutting import (
    Draw,
    concatenated,
    cut,
    first,
    permuted,
    shuffled,
    tokenised,
)
from harness.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROCESSES = 8
"""Over which M-SMoE's code splits the documents before it joins them."""
_LONGEST = 512
"""Tokens of the longest document AWQ takes."""


def windows(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
) -> Tensor:
    """Wanda's and SparseGPT's WikiText-2 loader: windows of the training text.

    All documents, empty ones too, joined by one space and tokenised at once with the tokenizer's
    defaults; from Python's `random` with this seed the start of every window, from 0 to
    tokens - length - 1 inclusive. GPTQ's loader is the same with two newlines in the join.

    Raises:
        UserError: not more than `length` tokens.
    """
    ids = tokenised(tokenizer, [" ".join(texts)])[0]
    length = draw.length
    if len(ids) <= length:
        raise UserError(f"{draw.name} has {len(ids)} tokens; windows of {length} need more.")
    generator = draw.generator()
    starts = [generator.randint(0, len(ids) - length - 1) for _ in range(draw.count)]
    return first([ids[start : start + length] for start in starts], draw)


def svd_llm(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
) -> Tensor:
    """SVD-LLM's calibration loader (Wang et al. 2024, `get_calib_train_data`).

    All documents, empty ones too, joined by two newlines; for every row a start among the
    characters, from 0 to characters - length - 1 inclusive, the 10 * length characters from there
    tokenised with the tokenizer's defaults, and the first `length` tokens.

    Deviations: a stretch of fewer tokens is drawn anew, where the authors end up with a row less.
    The authors' function is given the seed 3 and draws without it; here it seeds the draw.

    Raises:
        UserError: no stretch has `length` tokens.
    """
    text = "\n\n".join(texts)
    generator, length = draw.generator(), draw.length
    rows: list[list[int]] = []
    misses = 0
    while len(rows) < draw.count:
        # As many misses as this in a row: the text is too short, or no better than too short.
        if len(text) <= length or misses > 1000:
            raise UserError(f"{draw.name} has no stretches of {length} tokens; lower the length.")
        start = generator.randint(0, len(text) - length - 1)
        ids = tokenised(tokenizer, [text[start : start + 10 * length]])[0]
        misses = misses + 1 if len(ids) < length else 0
        if len(ids) >= length:
            rows.append(ids[:length])
    return first(rows, draw)


def pile(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
) -> Tensor:
    """AWQ's calibration loader (Lin et al. 2023, `get_calib_dataset`).

    The documents in the order of `datasets.Dataset.shuffle(seed)`, stripped, tokenised with the
    tokenizer's defaults; those of more than 512 tokens and empty ones left out, the others joined
    and cut.

    Deviation: the authors take a number of documents and all rows they give; here documents are
    taken until there are `sequences` rows. The rows are the same as far as both go.

    Raises:
        UserError: too few rows.
    """
    documents = list(texts)
    ids: list[int] = []
    for index in shuffled(len(documents), draw):
        document = tokenised(tokenizer, [documents[index].strip()])[0]
        if len(document) <= _LONGEST:
            ids += document
        if len(ids) >= draw.count * draw.length:
            break
    return first(cut(ids, draw.length), draw)


def m_smoe(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
) -> Tensor:
    """M-SMoE's MiniPile loader (Li et al. 2024, `get_minipile_dataloder`).

    The documents split over 8 processes in file order, each part tokenised with the tokenizer's
    defaults, joined and cut, the rest of each part dropped; rows drawn without replacement.

    Deviations: the authors shuffle without a seed, so their rows cannot be drawn again. A part of
    more than 1,000 documents, of which they would drop several rests, is joined whole; MiniPile's
    validation split has 500.

    A draw of all rows gives the authors' tenth of them.

    Raises:
        UserError: too few rows.
    """
    documents = list(texts)
    size, more = divmod(len(documents), _PROCESSES)
    rows: list[list[int]] = []
    start = 0
    for part in range(_PROCESSES):
        end = start + size + (part < more)
        rows += cut(concatenated(tokenizer, documents[start:end]), draw.length)
        start = end
    if draw.sequences is None:
        draw = replace(draw, sequences=len(rows) // 10)
    return first([rows[i] for i in permuted(len(rows), draw.seed)], draw)
