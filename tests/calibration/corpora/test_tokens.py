from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.calibration.tokens import Tokens
from harness.errors import UserError


def tokens(mask: torch.Tensor | None = None) -> Tokens:
    return Tokens(torch.arange(12).view(3, 4), mask, "eep", 42, "A sentence.")


def padded() -> torch.Tensor:
    return torch.arange(4) < torch.tensor([[4], [2], [1]])  # [3, 4]


def test_hash_depends_on_ids_shape_and_mask() -> None:
    base = tokens()
    assert base.sha256 == tokens().sha256
    hashes = {base.sha256, tokens(padded()).sha256}
    hashes.add(Tokens(base.input_ids.view(4, 3), None, "", 0, "").sha256)
    for row in range(3):
        for column in range(4):
            ids = base.input_ids.clone()
            ids[row, column] += 1
            hashes.add(Tokens(ids, None, "", 0, "").sha256)
    assert len(hashes) == 15


def test_provenance_is_no_part_of_the_hash() -> None:
    assert Tokens(tokens().input_ids, None, "other", 1, "Other.").sha256 == tokens().sha256


def test_full_mask_is_none() -> None:
    full = tokens(torch.ones(3, 4, dtype=torch.bool))
    assert full.attention_mask is None
    assert full.sha256 == tokens().sha256


@pytest.mark.parametrize("ids", [torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64)])
def test_wrong_ids(ids: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="not int64 of rank 2"):
        Tokens(ids, None, "", 0, "")


def test_wrong_mask() -> None:
    with pytest.raises(ValueError, match="attention_mask"):
        tokens(torch.ones(3, 3, dtype=torch.bool))


@pytest.mark.parametrize("mask", [None, padded()])
def test_batches(mask: torch.Tensor | None) -> None:
    parts = list(tokens(mask).batches(2))
    assert [len(ids) for ids, _ in parts] == [2, 1]
    assert torch.equal(torch.cat([ids for ids, _ in parts]), tokens().input_ids)
    if mask is None:
        assert all(m is None for _, m in parts)
    else:
        assert torch.equal(torch.cat([m for _, m in parts if m is not None]), mask)


def answers() -> torch.Tensor:
    return torch.tensor([[0, 0, 1, 1], [0, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)


def told(mask: torch.Tensor | None, marked: torch.Tensor | None) -> Tokens:
    return Tokens(torch.arange(12).view(3, 4), mask, "eep", 42, "A sentence.", marked)


def test_the_hash_without_answers_is_what_it_always_was() -> None:
    assert tokens().sha256 == ("0c219c407a9dbc0512fa1fe818093bc0acec4d5d6ed894bfeb708dd08af8150c")
    assert told(None, None).sha256 == tokens().sha256
    hashes = {
        told(mask, marked).sha256
        for mask in (None, padded())
        for marked in (None, answers(), answers() & (torch.arange(4) > 1))
    }
    assert len(hashes) == 6
    assert told(None, padded()).sha256 != told(padded(), None).sha256


def test_answers_are_saved_and_taken_in_part(tmp_path: Path) -> None:
    path = tmp_path / "tokens.safetensors"
    told(padded(), answers()).save(path)
    loaded = Tokens.load(path)
    assert loaded.sha256 == told(padded(), answers()).sha256
    assert loaded.answers is not None
    part = loaded.part(slice(1, 3))
    assert part.answers is not None
    assert torch.equal(part.answers, answers()[1:])
    assert torch.equal(part.input_ids, loaded.input_ids[1:])
    assert (part.ref, part.seed, part.source) == (loaded.ref, loaded.seed, loaded.source)


@pytest.mark.parametrize(
    ("marked", "reason"),
    [
        (answers()[:2], r"answers are torch.bool \[2, 4\]"),
        (answers().long(), "answers are torch.int64"),
        (~answers(), "an answer is padding"),
    ],
)
def test_wrong_answers(marked: torch.Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        told(padded(), marked)


def test_empty(tmp_path: Path) -> None:
    empty = Tokens.empty(128)
    assert (empty.sequences, empty.length) == (0, 128)
    assert list(empty.batches(8)) == []
    empty.save(tmp_path / "none.safetensors")
    assert Tokens.load(tmp_path / "none.safetensors").sha256 == empty.sha256


@pytest.mark.parametrize("mask", [None, padded()])
def test_round_trip(tmp_path: Path, mask: torch.Tensor | None) -> None:
    path = tmp_path / "new/tokens.safetensors"
    tokens(mask).save(path)
    tokens(mask).save(path)
    loaded = Tokens.load(path, vocabulary=12)
    assert loaded.sha256 == tokens(mask).sha256
    assert (loaded.ref, loaded.seed, loaded.source) == ("eep", 42, "A sentence.")
    assert [p.name for p in path.parent.iterdir()] == ["tokens.safetensors"]


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokens.safetensors"
    tokens().save(path)
    before = path.read_bytes()

    def fail(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        tokens(padded()).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_users_file(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"input_ids": tokens().input_ids.to(dtype), "other": torch.zeros(1)}, path)
    loaded = Tokens.load(path, vocabulary=12)
    assert loaded.sha256 == tokens().sha256
    assert loaded.ref == str(path)
    assert loaded.source == "Token ids of mine.safetensors."


def test_users_mask_of_integers(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"input_ids": tokens().input_ids, "attention_mask": padded().long()}, path)
    assert Tokens.load(path).sha256 == tokens(padded()).sha256


IDS = torch.arange(12).view(3, 4)
HOLE = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]])
LEFT = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]])


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"ids": IDS}, "has no tensor 'input_ids'"),
        ({"input_ids": IDS.float()}, r"'input_ids' is torch.float32 \[3, 4\]"),
        ({"input_ids": IDS[0]}, r"\[4\]; integers of shape \[sequences, length\]"),
        ({"input_ids": IDS + 1}, "row 2 holds the id 12; the model has 0 to 11"),
        ({"input_ids": IDS - 1}, "row 0 holds the id -1"),
        ({"input_ids": IDS, "attention_mask": HOLE}, "row 1 of 'attention_mask'"),
        ({"input_ids": IDS, "attention_mask": LEFT}, "row 2 of 'attention_mask'"),
        ({"input_ids": IDS, "attention_mask": HOLE[:2]}, r"is \[2, 4\] and 'input_ids' \[3, 4\]"),
        (
            {"input_ids": IDS, "answers": HOLE[:2]},
            r"'answers' is \[2, 4\] and 'input_ids' \[3, 4\]",
        ),
        (
            {"input_ids": IDS, "attention_mask": padded(), "answers": HOLE},
            "row 1 of 'answers' marks padding",
        ),
    ],
)
def test_users_mistakes(tmp_path: Path, tensors: dict[str, torch.Tensor], sentence: str) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(tensors, path)
    with pytest.raises(UserError, match=sentence) as error:
        Tokens.load(path, vocabulary=12)
    assert str(error.value).startswith(f"{path}: ")


def test_unreadable_files(tmp_path: Path) -> None:
    path = tmp_path / "tokens.safetensors"
    tokens().save(path)
    whole = path.read_bytes()
    for broken in (b"", b"not safetensors at all", whole[:-5], whole[: len(whole) // 3]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="not a whole safetensors file"):
            Tokens.load(path)
    with pytest.raises(UserError, match="no such file"):
        Tokens.load(tmp_path / "absent.safetensors")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        Tokens.load(tmp_path)


def test_changed_after_saving(tmp_path: Path) -> None:
    path = tmp_path / "tokens.safetensors"
    tokens().save(path)
    whole = bytearray(path.read_bytes())
    whole[-8] ^= 1
    path.write_bytes(whole)
    with pytest.raises(UserError, match="not those that were saved"):
        Tokens.load(path)
