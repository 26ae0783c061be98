"""A model's tokenizer: where it is, and what must be mended when it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.model.names import _first, folder_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenizer_source(ref: str) -> Path | str | None:
    """The place of a model's tokenizer: its folder if that holds one, or the hub."""
    folder = folder_of(ref)
    if folder is None:
        return ref
    return folder if any((folder / name).is_file() for name in _TOKENIZER_FILES) else None


def load_tokenizer(source: str | Path | None, ref: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if source is None:
        raise UserError(f"{ref} has no tokenizer; put its tokenizer.json into the model's folder.")
    here = isinstance(source, Path)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, trust_remote_code=False, local_files_only=here
        )
        if _loses_spaces(tokenizer):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(source, local_files_only=here)
        if _forgets_bos(tokenizer, source, here):
            tokenizer = type(tokenizer).from_pretrained(
                source, local_files_only=here, add_bos_token=True
            )
        return tokenizer
    except Exception as error:  # tokenizers raises a plain Exception for a corrupt file
        raise UserError(f"the tokenizer of {ref} cannot be read: {_first(error)}.") from error


def _forgets_bos(tokenizer: PreTrainedTokenizerBase, source: str | Path, here: bool) -> bool:
    """True if tokenizer_config.json asks for a BOS and none comes.

    transformers 5 ignores `add_bos_token` where there is a tokenizer.json; DeepSeek's has no such
    step, and its models would be scored without the BOS they were trained with.
    """
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    asked = get_tokenizer_config(source, local_files_only=here).get("add_bos_token")
    bos = tokenizer.bos_token_id
    return asked is True and bos is not None and tokenizer("a")["input_ids"][:1] != [bos]


def _loses_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """True if a byte-level vocabulary got steps that are not byte-level.

    DeepSeek's tokenizers call themselves LlamaTokenizerFast, and some releases of transformers 5
    put Llama's steps in the place of those in tokenizer.json: "a b" is then read as "ab".
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = tokenizer.get_vocab()
    byte_level = "\u0120" in vocabulary and "\u2581" not in vocabulary  # how each spells a space
    return backend is not None and byte_level and "ByteLevel" not in str(backend.pre_tokenizer)


_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
