"""Tokenizers that do not belong to the model, or that cannot be read right, are refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.errors import UserError
from harness.model import tokenizer as tokenizers
from harness.model.files.opening import open_model
from harness.model.tokenizer import load_tokenizer
from tests.models import save_checkpoint


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "tiny")


def test_tokens_beyond_the_embedding_are_named(base: Path) -> None:
    words: Any = load_tokenizer(base, "mine")
    rows = len(words)
    words.add_tokens(["office-chair"])
    words.save_pretrained(base)
    model = open_model(str(base))
    with pytest.raises(
        UserError, match=rf"1 tokens beyond the {rows} .* 'office-chair' \({rows}\)"
    ):
        _ = model.tokenizer


def test_a_folder_without_a_tokenizer_is_one_sentence(base: Path) -> None:
    for file in base.glob("*token*"):
        file.unlink()
    with pytest.raises(UserError, match=r"has no tokenizer; put its tokenizer\.json into"):
        _ = open_model(str(base)).tokenizer


@pytest.mark.parametrize(
    "values",
    [
        {"tokenizer_class": "NoSuchTokenizer"},
        {"tokenizer_class": 5},
        {"tokenizer_class": "MyTokenizer", "auto_map": {"AutoTokenizer": ["a.My", "a.MyFast"]}},
        {"auto_map": {"AutoTokenizer": ["tokenization_mine.My", None]}},
        {"eos_token": 7},
        {"added_tokens_decoder": {"x": 1}},
        {"extra_special_tokens": 3},
        {"model_max_length": "long"},
    ],
)
def test_settings_of_a_tokenizer_lead_to_it_or_to_one_sentence(
    values: dict[str, Any], base: Path
) -> None:
    wanted = load_tokenizer(base, "mine")("the cat sat")["input_ids"]
    file = base / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    (base / "tokenization_mine.py").write_text("raise SystemExit('foreign code has run')")
    sentence = ""
    try:
        ids = load_tokenizer(base, "mine")("the cat sat")["input_ids"]
    except UserError as error:
        ids, sentence = wanted, str(error)
    assert ids == wanted
    assert not sentence or ("mine" in sentence and "\n" not in sentence)


@pytest.fixture
def sentencepiece_alone(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x0b")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return tmp_path


def test_a_sentencepiece_model_alone_is_refused_where_it_cannot_be_read(
    sentencepiece_alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers, "_READERS", ("no_such_library",))
    with pytest.raises(UserError, match=r"tokenizer\.model cannot be read here.*tokenizer\.json"):
        load_tokenizer(sentencepiece_alone, "mine")


@pytest.mark.parametrize("right", [True, False])
def test_a_sentencepiece_model_alone_is_read_as_sentencepiece_does_or_refused(
    right: bool, base: Path, sentencepiece_alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = load_tokenizer(base, "mine")

    class Processor:
        def __init__(self, model_file: str) -> None:
            assert model_file == str(sentencepiece_alone / "tokenizer.model")

        def encode(self, text: str) -> list[int]:
            ids: list[int] = words.encode(text, add_special_tokens=False)
            return ids if right else ids[::-1]

    library: Any = ModuleType("sentencepiece")
    library.SentencePieceProcessor = Processor
    monkeypatch.setitem(sys.modules, "sentencepiece", library)
    monkeypatch.setattr(tokenizers, "_READERS", ())
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *a, **o: words)
    if right:
        assert load_tokenizer(sentencepiece_alone, "mine") is words
    else:
        with pytest.raises(UserError, match="is read as other tokens by transformers"):
            load_tokenizer(sentencepiece_alone, "mine")


def test_a_tokenizer_that_fits_is_taken(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check: Callable[..., None] = tokenizers.check_fits
    words = open_model(str(base)).tokenizer
    check(words, len(words), "mine")
    check(words, len(words) + 7, "mine")
