"""Real text, a tokenizer trained on it, and checkpoints that transformers itself wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
)

from tests.models import from_config, tiny_config

VOCABULARY = 512


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def real_text(real_texts: Path) -> list[str]:
    return _lines(real_texts / "ptb.valid.txt")


@pytest.fixture(scope="session")
def tokenizer(real_text: list[str]) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(real_text, trainer)
    fast: Any = PreTrainedTokenizerFast  # its constructor has no annotations
    result: PreTrainedTokenizerFast = fast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    return result


@pytest.fixture(scope="session")
def data_root(real_texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real WikiText-2 and PTB, laid out as their hub repositories."""
    root = tmp_path_factory.mktemp("data")
    for repository, config, field, source in (
        ("Salesforce/wikitext", "wikitext-2-raw-v1", "text", "wikitext2-tokenised.test.txt"),
        ("ptb-text-only/ptb_text_only", "penn_treebank", "sentence", "ptb.test.txt"),
    ):
        folder = root / repository
        (folder / config).mkdir(parents=True)
        rows = [json.dumps({field: line}) for line in _lines(real_texts / source)[:600]]
        (folder / config / "test.jsonl").write_text("\n".join(rows) + "\n")
        (folder / "README.md").write_text(
            "---\nconfigs:\n"
            f"- config_name: {config}\n  data_files:\n"
            f"  - split: test\n    path: {config}/test.jsonl\n---\n"
        )
    return root


@pytest.fixture
def foreign(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Callable[[str], Path]:
    """A small random sharded checkpoint of a family, as transformers saves it."""

    def write(family: str) -> Path:
        folder = tmp_path / family
        torch.manual_seed(0)
        sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "max_position_embeddings": 128}
        lm = from_config(tiny_config(family, **sizes))
        lm.save_pretrained(folder, max_shard_size="100KB")
        tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def calibration_text(tmp_path: Path, real_text: list[str]) -> Path:
    path = tmp_path / "calibration.txt"
    path.write_text("\n".join(real_text[:800]), encoding="utf-8")
    return path
