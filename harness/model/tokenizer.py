"""A model's tokenizer: where it is, and what must be mended when it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError, first_line
from harness.model.names import folder_of

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
    alone = _sentencepiece_alone(source) if isinstance(source, Path) else None
    if alone is not None and not all(_is_there(library) for library in _READERS):
        raise _no_sentencepiece(alone, "cannot be read here")
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
        tokenizer(_KNOWN[0])  # settings of another kind than they should be come out only here
        if alone is not None and not _agrees(tokenizer, alone):
            raise _no_sentencepiece(alone, "is read as other tokens by transformers")
        return tokenizer
    except UserError:
        raise
    except Exception as error:  # tokenizers raises a plain Exception for a corrupt file
        raise UserError(f"the tokenizer of {ref} cannot be read: {first_line(error)}.") from error


def check_fits(tokenizer: PreTrainedTokenizerBase, rows: int, ref: str) -> None:
    """Raise a UserError for a tokenizer with tokens that a model has no embedding of.

    Args:
        tokenizer: The model's.
        rows: Tokens that the model embeds.
        ref: The model, for the error.
    """
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    if beyond:
        first = min(beyond)
        raise UserError(
            f"the tokenizer of {ref} has {len(beyond)} tokens beyond the {rows} that the model "
            f"embeds, the first is {beyond[first]!r} ({first}); take them out of the tokenizer, or "
            "enlarge the embedding."
        )


_READERS = ("sentencepiece", "google.protobuf")
"""Libraries that transformers reads a sentencepiece model with."""
_KNOWN = (
    "The quick brown fox jumps over the lazy dog.",
    " two  spaces, and   three",
    "3.14 + 2 = 5.14\nnext line\tand a tab",
    "na\u00efve caf\u00e9 \u2014 \u4e2d\u6587 \u0440\u0443\u0441\u0441\u043a\u0438\u0439",
)
"""Texts that two readers of one vocabulary have to agree on."""


def _sentencepiece_alone(folder: Path) -> Path | None:
    """The sentencepiece model of a folder that has nothing else to read its tokens with."""
    others = ("tokenizer.json", "vocab.json", "vocab.txt")
    if any((folder / name).is_file() for name in others):
        return None
    return next(iter(sorted(folder.glob("*.model"))), None)


def _is_there(library: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # nor the package that it should lie in
        return False


def _agrees(tokenizer: PreTrainedTokenizerBase, model: Path) -> bool:
    """True if sentencepiece itself reads the known texts as the same tokens."""
    from importlib import import_module

    words = import_module("sentencepiece").SentencePieceProcessor(model_file=str(model))
    return all(
        tokenizer.encode(text, add_special_tokens=False) == words.encode(text) for text in _KNOWN
    )


def _no_sentencepiece(model: Path, what: str) -> UserError:
    return UserError(
        f"{model} {what}: a sentencepiece model alone; put the tokenizer.json of the published "
        "model beside it."
    )


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
