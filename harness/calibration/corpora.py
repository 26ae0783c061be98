"""Calibration corpora by name, and the reader of users' own files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.calibration import local
from harness.data.files import suffix
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.calibration.tokens import Tokens
    from harness.data import DataRoot


@dataclass(frozen=True)
class Corpus:
    """Which text, and how sequences are cut from it."""

    name: str
    sampler: str
    """Key of `harness.calibration.sampling.SAMPLERS`."""
    hub_id: str | None = None
    """Data set on the hub; None for what ships with the package and for users' files."""
    file: str = ""
    """Path within the hub repository or the package's data root."""
    split: str = "train"
    field: str = "text"
    sequences: int = 128
    length: int = 2048
    """Tokens per sequence."""
    seed: int = 0
    paper: str = ""
    """Whose calibration it is."""


_C4 = "allenai/c4"
_SHARD = "en/c4-train.00000-of-01024.json.gz"

CORPORA: Mapping[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus("eep", "eep", _C4, _SHARD, seed=42, paper="Lu et al. 2024, arXiv 2402.14800"),
        Corpus("c-moe", "c-moe", _C4, _SHARD, paper="He et al. 2024, arXiv 2406.02500"),
        Corpus("wanda", "wanda", _C4, _SHARD, paper="Sun et al. 2023, arXiv 2306.11695"),
        Corpus("reference", "documents", file="calibration.jsonl", length=256),
    )
}
"""What `calibration` in a suite may name beside a file."""


def tokens(
    ref: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    sequences: int | None = None,
    length: int | None = None,
    seed: int | None = None,
    data: DataRoot,
) -> Tokens:
    """The calibration sequences that `ref` names.

    Args:
        ref: A name of `CORPORA`; or the path of a file of documents with one of
            `local.SUFFIXES` (`.gz` too), `FILE#FIELD` for another field than `text`; or of a
            `.safetensors` file that holds `input_ids`.
        tokenizer: The model's; a `.safetensors` file is only checked against its vocabulary.
        sequences: Rows; None for the corpus's own number, or all of a `.safetensors` file. 0
            gives empty tokens and reads nothing.
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
        return _saved(file, ref, tokenizer, sequences, length)
    asked: dict[str, Any] = {"sequences": sequences, "length": length, "seed": seed}
    corpus = replace(corpus, **{name: n for name, n in asked.items() if n is not None})
    return _sampled(corpus, file or _find(corpus, data), tokenizer)


def _check(ref: str, sequences: int | None, length: int | None) -> None:
    if sequences is not None and sequences < 0:
        raise UserError(f"calibration {ref!r}: sequences is {sequences}; it cannot be negative.")
    if length is not None and length < 1:
        raise UserError(f"calibration {ref!r}: length is {length}; it is at least 1.")


def _local(ref: str) -> tuple[Corpus, Path]:
    """A user's file as a corpus of its own."""
    path, field = Path(ref), "text"
    if "#" in ref and not path.is_file():
        name, _, field = ref.rpartition("#")
        path = Path(name)
    kinds = (*local.SUFFIXES, ".safetensors")
    if not path.is_file():
        if "/" in str(path) or suffix(path) in kinds:
            raise UserError(f"calibration {ref!r}: there is no file {str(path)!r}.")
        raise UserError(
            f"{unknown('calibration', ref, CORPORA)} The path of a file that exists will do too."
        )
    if suffix(path) not in kinds:
        raise UserError(f"calibration {ref!r}: the file is none of {', '.join(kinds)}.")
    return Corpus(ref, "packed", file=str(path), field=field), path


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
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise UserError(
            f"{file} of {hub_id} could not be fetched from the hub ({reason}); "
            f"name a data root that has {hub_id}/{file} instead."
        ) from None


def _sampled(corpus: Corpus, file: Path, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    from harness.calibration.sampling import SAMPLERS
    from harness.calibration.tokens import Tokens

    ids = SAMPLERS[corpus.sampler](
        local.documents(file, corpus.field),
        tokenizer,
        sequences=corpus.sequences,
        length=corpus.length,
        seed=corpus.seed,
        name=f"calibration {corpus.name!r}",
    )  # [sequences, length]
    return Tokens(ids, None, corpus.name, corpus.seed, _source(corpus, tokenizer))


def _source(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> str:
    text = f"{corpus.hub_id}/{corpus.file}" if corpus.hub_id else corpus.file
    field = "" if suffix(Path(corpus.file)) == ".txt" else f", field {corpus.field!r}"
    named = f" {tokenizer.name_or_path!r}" if tokenizer.name_or_path else ""
    return (
        f"{text}{field}, sampled as {corpus.sampler!r} with seed {corpus.seed}, "
        f"tokenised by {type(tokenizer).__name__}{named}."
    )


def _saved(
    file: Path,
    ref: str,
    tokenizer: PreTrainedTokenizerBase,
    sequences: int | None,
    length: int | None,
) -> Tokens:
    from harness.calibration.tokens import Tokens

    saved = Tokens.load(file, vocabulary=len(tokenizer))
    rows, columns = sequences or saved.sequences, length or saved.length
    if rows > saved.sequences or columns > saved.length:
        raise UserError(
            f"{file} holds {saved.sequences} sequences of {saved.length} tokens and "
            f"{rows} of {columns} were asked for."
        )
    mask = saved.attention_mask
    kept = None if mask is None else mask[:rows, :columns].clone()
    ids = saved.input_ids[:rows, :columns].clone()  # [rows, columns]
    return Tokens(ids, kept, ref, saved.seed, saved.source)
