"""Calibration corpora by name, and the reader of users' own files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.calibration.corpora import text_files as local
from harness.calibration.corpora.catalogue import CORPORA, Corpus
from harness.data.files import READABLE, placed, read, suffix
from harness.disk.reading import is_file
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.calibration.tokens import Tokens
    from harness.data import DataRoot

__all__ = ["CORPORA", "Corpus", "tokens"]


def reads_text(ref: str, sequences: int | None = None) -> bool:
    """True if drawing from a calibration takes a tokenizer: token ids need none, nor does nothing.

    Raises:
        UserError: as `tokens`, for a name or a file.
    """
    if sequences == 0:
        return False
    return ref in CORPORA or suffix(_local(ref)[1]) != ".safetensors"


def tokens(
    ref: str,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    vocabulary: int | None = None,
    sequences: int | None = None,
    length: int | None = None,
    seed: int | None = None,
    data: DataRoot,
) -> Tokens:
    """The calibration sequences that `ref` names.

    Args:
        ref: A name of `CORPORA`; or the path of a file of documents with one of
            `local.SUFFIXES` (`.gz` too), `FILE#FIELD` for another field than `text`; of
            instructions, whose rows have the fields of one of `instructions.FIELDS`; or of a
            `.safetensors` file that holds `input_ids`.
        tokenizer: The model's; None where `reads_text` says that none is needed.
        vocabulary: Ids that the model knows, which those of a `.safetensors` file are checked
            against; None for the tokenizer's.
        sequences: Rows; None for the corpus's own number, or all of a file of instructions or
            `.safetensors`. 0 gives empty tokens and reads nothing.
        length: Tokens per row; None for the corpus's own, or a `.safetensors` file's.
        seed: None for the corpus's own. `c-moe` and `.safetensors` files draw nothing.
        data: Where hub data sets are read.

    Raises:
        UserError: unknown name, unreadable or too short text, a file that does not fit.
    """
    _check(ref, sequences, length)
    corpus, file = (CORPORA[ref], None) if ref in CORPORA else _local(ref)
    if sequences == 0:
        from harness.calibration.tokens import Tokens

        return Tokens.empty(length or corpus.length)
    if file is not None and suffix(file) == ".safetensors":
        known = len(tokenizer) if vocabulary is None and tokenizer is not None else vocabulary
        return _saved(file, ref, known, sequences, length)
    if tokenizer is None:
        raise UserError(f"calibration {ref!r} is text and takes a tokenizer; name a file of ids.")
    asked: dict[str, Any] = {"sequences": sequences, "length": length, "seed": seed}
    if file is not None and _asks(file, ref):
        corpus = replace(corpus, sampler="alpaca", sequences=None, length=512)
    corpus = replace(corpus, **{name: n for name, n in asked.items() if n is not None})
    if file is None and corpus.file:
        file = _find(corpus, data)
    return _sampled(corpus, file, data, tokenizer)


def _check(ref: str, sequences: int | None, length: int | None) -> None:
    if sequences is not None and sequences < 0:
        raise UserError(f"calibration {ref!r}: sequences is {sequences}; it cannot be negative.")
    if length is not None and length < 1:
        raise UserError(f"calibration {ref!r}: length is {length}; it is at least 1.")


def _local(ref: str) -> tuple[Corpus, Path]:
    """A user's file as a corpus of its own."""
    path, field = Path(ref), "text"
    if "#" in ref and not is_file(path):
        name, _, field = ref.rpartition("#")
        path = Path(name)
    kinds = (*local.SUFFIXES, ".safetensors")
    if not is_file(path):
        if "/" in str(path) or suffix(path) in kinds:
            raise UserError(f"calibration {ref!r}: there is no file {str(path)!r}.")
        raise UserError(
            f"{unknown('calibration', ref, CORPORA)} The path of a file that exists will do too."
        )
    if suffix(path) not in kinds:
        raise UserError(f"calibration {ref!r}: the file is none of {', '.join(kinds)}.")
    return Corpus(name=ref, sampler="joined", file=str(path), field=field), path


def _asks(file: Path, ref: str) -> bool:
    """True if a user's file holds instructions: its first row says so, unless a field is named."""
    from harness.calibration.corpora.instructions import fields

    if suffix(file) not in READABLE or ref != str(file):
        return False
    row = next(read(file), {})
    return "text" not in row and fields(row) is not None


def _find(corpus: Corpus, data: DataRoot) -> Path:
    """The file of a named corpus: shipped, below the data root, or fetched from the hub."""
    if corpus.hub_id is None:
        from harness import reference

        path = reference.DATA / corpus.file
    elif data.path is not None:
        path = data.path / corpus.hub_id / corpus.file
    else:
        return _fetched(corpus.hub_id, corpus.file)
    if not path.is_file():
        raise UserError(f"calibration {corpus.name!r} reads {path}, which does not exist.")
    return path


def _fetched(hub_id: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(hub_id, file, repo_type="dataset"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{file} of {hub_id} could not be fetched from the hub ({type(error).__name__}); "
            f"name a data root that has {hub_id}/{file} instead."
        ) from None


def _sampled(
    corpus: Corpus, file: Path | None, data: DataRoot, tokenizer: PreTrainedTokenizerBase
) -> Tokens:
    from harness.calibration.corpora.cutting import Draw
    from harness.calibration.corpora.instructions import ANSWERED, instructions
    from harness.calibration.corpora.samplers import SAMPLERS
    from harness.calibration.tokens import Tokens

    draw = Draw(corpus.sequences, corpus.length, corpus.seed, f"calibration {corpus.name!r}")
    about = (corpus.name, corpus.seed, _source(corpus, tokenizer))
    if corpus.sampler in ANSWERED:
        rows = _rows(corpus, data) if file is None else placed(file)
        asked = list(instructions(rows, empty=file is None))
        ids, mask, answers = ANSWERED[corpus.sampler](asked, tokenizer, draw)
        return Tokens(ids, mask, *about, answers)  # each [sequences, length]
    texts = local.documents(file, corpus.field) if file else _texts(corpus, data)
    return Tokens(SAMPLERS[corpus.sampler](texts, tokenizer, draw), None, *about)


def _rows(corpus: Corpus, data: DataRoot) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a split on the hub or below the data root, each with its place."""
    hub_id = str(corpus.hub_id)
    rows = data.rows(hub_id, corpus.config, corpus.split, files=corpus.files)
    for number, row in enumerate(rows, 1):
        yield f"{hub_id}: row {number} of {corpus.split}", row


def _texts(corpus: Corpus, data: DataRoot) -> Iterator[str]:
    """The documents of a split; empty ones too, as the authors join them."""
    for where, row in _rows(corpus, data):
        text = local.text(row, corpus.field, where)
        yield f"{text} {local.text(row, corpus.then, where)}" if corpus.then else text


def _source(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> str:
    from harness.calibration.corpora.instructions import ANSWERED

    part = corpus.file or corpus.files or ", ".join(filter(None, (corpus.config, corpus.split)))
    text = f"{corpus.hub_id}/{part}" if corpus.hub_id else part
    named_fields = " and ".join(repr(field) for field in (corpus.field, corpus.then) if field)
    none = corpus.sampler in ANSWERED or suffix(Path(corpus.file)) == ".txt"
    field = "" if none else f", field {named_fields}"
    named = f" {tokenizer.name_or_path!r}" if tokenizer.name_or_path else ""
    return (
        f"{text}{field}, sampled as {corpus.sampler!r} with seed {corpus.seed}, "
        f"tokenised by {type(tokenizer).__name__}{named}."
    )


def _saved(
    file: Path,
    ref: str,
    vocabulary: int | None,
    sequences: int | None,
    length: int | None,
) -> Tokens:
    from harness.calibration.tokens import Tokens

    saved = Tokens.load(file, vocabulary=vocabulary)
    rows, columns = sequences or saved.sequences, length or saved.length
    if rows > saved.sequences or columns > saved.length:
        raise UserError(
            f"{file} holds {saved.sequences} sequences of {saved.length} tokens and "
            f"{rows} of {columns} were asked for."
        )
    ids = saved.input_ids[:rows, :columns].clone()  # [rows, columns], and so the other two
    mask, answers = (
        None if part is None else part[:rows, :columns].clone()
        for part in (saved.attention_mask, saved.answers)
    )
    return Tokens(ids, mask, ref, saved.seed, saved.source, answers)
