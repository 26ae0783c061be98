from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any, cast

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BOS = "<s>"
WORDS = ["the", "expert", "router", "reads", "a", "token", "and", "sends", "it", "to", "networks"]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """1,500 documents of 3 to 40 words; one in fifty is ten times as long."""
    draw = random.Random(7)
    lengths = [draw.randint(3, 40) * (10 if i % 50 == 9 else 1) for i in range(1500)]
    return [" ".join(draw.choices(WORDS, k=n)) + f" {i}." for i, n in enumerate(lengths)]


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE that puts a BOS before every document, as Llama's does."""
    return _train(texts, "</s>")


@pytest.fixture(scope="session")
def without_eos(texts: list[str]) -> PreTrainedTokenizerFast:
    return _train(texts, None)


def _train(texts: list[str], eos: str | None) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts[:200],
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=[BOS, "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, bpe.token_to_id(BOS))]
    )
    made: Any = PreTrainedTokenizerFast  # its constructor has no annotations
    return cast(PreTrainedTokenizerFast, made(tokenizer_object=bpe, bos_token=BOS, eos_token=eos))


@pytest.fixture
def data_root(tmp_path: Path, texts: list[str]) -> Path:
    """A data root with a small shard where C4's first one lies."""
    file = tmp_path / "root/allenai/c4/en/c4-train.00000-of-01024.json.gz"
    file.parent.mkdir(parents=True)
    lines = (json.dumps({"text": t, "timestamp": "", "url": ""}) for t in texts)
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path / "root"
