"""The tokenizer: one token for every word of the world, single characters for the rest."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PAD, BOS, EOS, UNK = range(4)
CONTEXT = 256
_WORD = re.compile(r"\w+|[^\w\s]+")
_CHARACTERS = string.ascii_letters + string.digits


def split(text: str) -> list[str]:
    """The words of a text, as the tokenizer cuts it; whitespace is free."""
    return _WORD.findall(text)


def vocabulary(words: list[str]) -> dict[str, int]:
    """Word -> id: special tokens, the world's words, then characters for all others."""
    marks = [c for c in _CHARACTERS + string.punctuation if c not in words]
    pieces = [f"##{c}" for c in _CHARACTERS + string.punctuation]
    return {token: i for i, token in enumerate([*SPECIAL, *sorted(words), *marks, *pieces])}


def tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """The tokenizer over `words`; it adds no token by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = models.WordPiece(vocabulary(words), unk_token=SPECIAL[UNK], max_input_chars_per_word=64)
    core = Tokenizer(model)
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token=SPECIAL[PAD],
        bos_token=SPECIAL[BOS],
        eos_token=SPECIAL[EOS],
        unk_token=SPECIAL[UNK],
        model_max_length=CONTEXT,
    )
