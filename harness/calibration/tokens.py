"""Calibration tokens: token ids with their provenance, hashed, saved and loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harness.cache.keeping import keep
from harness.cache.tensors import packed
from harness.disk.reading import BadFile, fit, parse_object
from harness.disk.writing import put
from harness.errors import UserError, first_line

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_TENSORS = ("input_ids", "attention_mask", "answers")
_ABOUT = "moebench_tokens"
"""Key of the metadata."""


class About(BaseModel):
    """The metadata of a file of tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ref: str
    seed: int
    source: str
    sha256: str
    about_sha256: str | None = None
    """Digest of the others; files of before have none."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Rows of token ids and where they came from.

    Raises:
        ValueError: `input_ids` is not int64 [sequences, length], a mask is not bool of the same
            shape, or an answer is padding.
    """

    input_ids: Tensor
    """int64 [sequences, length]."""
    attention_mask: Tensor | None
    """bool [sequences, length], True on the valid tokens on the left; None when all are valid."""
    ref: str
    """As the user named them: a corpus or a file."""
    seed: int
    """Seed of the sampler; 0 where it draws nothing."""
    source: str
    """One sentence: text, file, sampler, tokenizer."""
    answers: Tensor | None = None
    """bool [sequences, length], True on the tokens that training is on; None for all valid ones."""
    sha256: str = field(init=False)
    """Hash of shape, ids, mask and answers."""

    def __post_init__(self) -> None:
        ids, mask = self.input_ids, self.attention_mask
        if ids.dtype != torch.int64 or ids.dim() != 2:
            raise ValueError(f"input_ids are {ids.dtype} {list(ids.shape)}, not int64 of rank 2")
        if mask is not None and (mask.dtype != torch.bool or mask.shape != ids.shape):
            raise ValueError(f"attention_mask is {mask.dtype} {list(mask.shape)}")
        told = self.answers
        if told is not None and (told.dtype != torch.bool or told.shape != ids.shape):
            raise ValueError(f"answers are {told.dtype} {list(told.shape)}")
        if told is not None and mask is not None and bool((told & ~mask).any()):
            raise ValueError("an answer is padding")
        if mask is not None and bool(mask.all()):
            object.__setattr__(self, "attention_mask", None)
        object.__setattr__(self, "sha256", _sha256(ids, self.attention_mask, told))

    @classmethod
    def empty(cls, length: int) -> Self:
        """No sequence at all, which is what a dry run calibrates on."""
        ids = torch.zeros(0, length, dtype=torch.int64)  # [0, length]
        return cls(ids, None, "none", 0, "No tokens.")

    @property
    def sequences(self) -> int:
        """Number of rows."""
        return self.input_ids.shape[0]

    @property
    def length(self) -> int:
        """Tokens per row, padding included."""
        return self.input_ids.shape[1]

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Ids int64 [b, length] and mask (bool [b, length] or None) of consecutive rows."""
        for start in range(0, self.sequences, batch_size):
            rows = slice(start, start + batch_size)
            mask = self.attention_mask
            yield self.input_ids[rows], None if mask is None else mask[rows]

    def part(self, rows: slice) -> Self:
        """Some of the rows."""
        mask, answers = self.attention_mask, self.answers
        return type(self)(
            self.input_ids[rows],
            None if mask is None else mask[rows],
            self.ref,
            self.seed,
            self.source,
            None if answers is None else answers[rows],
        )

    def save(self, path: Path) -> None:
        """Write a safetensors file that `load` reads; other readers see it whole or not at all.

        Raises:
            OSError: it cannot be written; what was there before still is.
        """
        put(path, self._packed())

    def keep(self, path: Path) -> None:
        """Write what `save` writes to the cache; one that cannot be written is a warning."""
        keep(path, self._packed())

    def _packed(self) -> bytes:
        held = zip(_TENSORS, (self.input_ids, self.attention_mask, self.answers), strict=True)
        about = {"ref": self.ref, "seed": self.seed, "source": self.source, "sha256": self.sha256}
        about["about_sha256"] = _about_sha256(about)
        return packed(
            {name: tensor for name, tensor in held if tensor is not None},
            {_ABOUT: json.dumps(about)},
        )

    @classmethod
    def load(cls, path: Path, *, vocabulary: int | None = None, saved: bool = False) -> Self:
        """Read what `save` wrote, or any safetensors file that holds `input_ids`.

        Args:
            path: The file. `input_ids` is an integer [sequences, length]; `attention_mask`, bool
                or integer of the same shape and right-padded, may stand beside it, and so may
                `answers`, which marks valid tokens only.
            vocabulary: Number of ids the model knows; None checks no upper bound.
            saved: Take only what `save` wrote.

        Raises:
            UserError: the file cannot be read, does not hold such tensors, holds an id outside
                the vocabulary, or was changed after `save`.
        """
        tensors, metadata = _read(path)
        ids = _ids(path, tensors.get("input_ids"), vocabulary)
        mask = _mask(path, tensors.get("attention_mask"), ids)
        answers = _answers(path, tensors.get("answers"), ids, mask)
        about = _about(path, metadata) if saved or _ABOUT in metadata else {}
        source = about.get("source", f"Token ids of {path.name}.")
        tokens = cls(ids, mask, about.get("ref", str(path)), about.get("seed", 0), source, answers)
        if about.get("sha256", tokens.sha256) != tokens.sha256:
            raise UserError(f"{path}: the token ids are not those that were saved; make it again.")
        return tokens


def _sha256(ids: Tensor, mask: Tensor | None, answers: Tensor | None) -> str:
    digest = hashlib.sha256(f"{list(ids.shape)}".encode())
    digest.update(ids.cpu().contiguous().numpy().astype("<i8").tobytes())
    if mask is not None:
        digest.update(mask.cpu().contiguous().numpy().tobytes())
    if answers is not None:
        digest.update(b"answers")
        digest.update(answers.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _about(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Ref, seed, source and hash, as `save` wrote them."""
    try:
        about = read_about(metadata.get(_ABOUT, ""), str(path))
    except BadFile:
        about = None
    if about is not None:
        given = about.pop("about_sha256")  # files of before have none
        if given is None or given == _about_sha256(about):
            return about
    raise UserError(f"{path}: does not say of its tokens what was saved; make it again.")


def read_about(text: str, where: str) -> dict[str, Any]:
    """Return what the metadata of a file of tokens say of them.

    Raises:
        BadFile: they are no JSON, or of another form.
    """
    return fit(About, parse_object(text, where), where).model_dump()


def _about_sha256(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = [n for n in file.keys() if n in _TENSORS]  # noqa: SIM118
            return {n: file.get_tensor(n) for n in names}, file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({first_line(error)}).") from None


def _ids(path: Path, ids: Tensor | None, vocabulary: int | None) -> Tensor:
    if ids is None:
        raise UserError(f"{path}: has no tensor 'input_ids'.")
    if ids.dtype not in _INTEGERS or ids.dim() != 2:
        raise UserError(
            f"{path}: 'input_ids' is {ids.dtype} {list(ids.shape)}; "
            "integers of shape [sequences, length] are needed."
        )
    outside = ids < 0 if vocabulary is None else (ids < 0) | (ids >= vocabulary)
    if bool(outside.any()):
        row = int(outside.any(dim=1).nonzero()[0])
        limit = "0 or more are" if vocabulary is None else f"the model has 0 to {vocabulary - 1}"
        raise UserError(f"{path}: row {row} holds the id {int(ids[outside][0])}; {limit}.")
    return ids.to(torch.int64)


def _mask(path: Path, mask: Tensor | None, ids: Tensor) -> Tensor | None:
    if mask is None:
        return None
    if mask.shape != ids.shape:
        raise UserError(
            f"{path}: 'attention_mask' is {list(mask.shape)} and 'input_ids' {list(ids.shape)}."
        )
    valid = mask.to(torch.bool)  # [sequences, length]
    # A left-padded row, or one with a hole, would shift every position after it.
    rows = ~valid[:, :1].all(dim=1) | (valid[:, 1:] & ~valid[:, :-1]).any(dim=1)
    if bool(rows.any()):
        row = int(rows.nonzero()[0])
        raise UserError(f"{path}: row {row} of 'attention_mask' is not right-padded.")
    return valid


def _answers(path: Path, answers: Tensor | None, ids: Tensor, mask: Tensor | None) -> Tensor | None:
    if answers is None:
        return None
    if answers.shape != ids.shape:
        raise UserError(
            f"{path}: 'answers' is {list(answers.shape)} and 'input_ids' {list(ids.shape)}."
        )
    told = answers.to(torch.bool)  # [sequences, length]
    if mask is not None and bool((told & ~mask).any()):
        row = int((told & ~mask).any(dim=1).nonzero()[0])
        raise UserError(f"{path}: row {row} of 'answers' marks padding.")
    return told
