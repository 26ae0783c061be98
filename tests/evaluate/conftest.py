"""A tokenizer trained on made-up text, tiny random models, and a data root of made-up items."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.models import from_config, tiny_config

SUBJECTS = ("anatomy", "virology")
ITEMS = 10

_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}


def _words(rng: random.Random, count: int) -> str:
    syllables = ("ka", "to", "mi", "ru", "se", "lon", "dra", "pe")
    return " ".join("".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(count))


@pytest.fixture(scope="session")
def text() -> str:
    """Made-up words, the same in every run."""
    rng = random.Random(5)
    return ". ".join(_words(rng, 12) for _ in range(300))


@pytest.fixture(scope="session")
def tokenizer(text: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE with `<unk>` as a special token, as Llama's and Mistral's have."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    specials = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(specials.values()),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bare.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bare, **specials)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session")
def build(tokenizer: PreTrainedTokenizerFast) -> Callable[..., PreTrainedModel]:
    """A tiny random model of a family: `build("mixtral", attention="eager", **config)`."""

    def build(family: str, *, attention: str = "sdpa", **changes: Any) -> PreTrainedModel:
        torch.manual_seed(7)
        config = tiny_config(family, **{**_SHAPE, "vocab_size": len(tokenizer), **changes})
        return from_config(config, attn_implementation=attention)

    return build


@pytest.fixture(scope="session")
def mixtral(build: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return build("mixtral")


Rows = list[dict[str, Any]]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with ten made-up items of each task."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    for hub_id, config, split, rows in (
        ("allenai/ai2_arc", "ARC-Challenge", "test", _arc(rng)),
        ("aps/super_glue", "boolq", "validation", _boolq(rng)),
        ("baber/piqa", "default", "validation", _piqa(rng)),
        ("allenai/winogrande", "winogrande_xl", "validation", _winogrande(rng)),
        ("Rowan/hellaswag", "default", "validation", _hellaswag(rng)),
        *(("cais/mmlu", subject, "test", _mmlu(rng)) for subject in SUBJECTS),
        ("cais/mmlu", SUBJECTS[0], "dev", _mmlu(rng)),
        ("openai/gsm8k", "main", "test", _gsm8k(rng)[:3]),
        ("openai/gsm8k", "main", "train", _gsm8k(rng)),
        ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1", "test", _pages(rng)),
        ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1", "train", _pages(rng)),
    ):
        write(folder, hub_id, config, split, rows)
        if split == "validation" or hub_id == "allenai/ai2_arc":
            write(folder, hub_id, config, "train", rows)  # stock lm-eval reads it in vain
    return folder


def write(folder: Path, hub_id: str, config: str, split: str, rows: Rows) -> None:
    """Add a split to a data root, README included."""
    place = folder / hub_id
    (place / config).mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row) for row in rows)
    (place / config / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    entries = [
        {
            "config_name": sub.name,
            "data_files": [
                {"split": file.stem, "path": f"{sub.name}/{file.name}"}
                for file in sorted(sub.iterdir())
            ],
        }
        for sub in sorted(place.iterdir())
        if sub.is_dir()
    ]
    # JSON is YAML, so the front matter needs no YAML library.
    (place / "README.md").write_text(f"---\n{json.dumps({'configs': entries})}\n---\n# Made up\n")


@pytest.fixture(scope="session")
def add_split() -> Callable[[Path, str, str, str, Rows], None]:
    return write


def _arc(rng: random.Random) -> Rows:
    return [
        {
            "id": str(number),
            "question": _words(rng, 8) + "?",
            "choices": {"text": [_words(rng, rng.randint(1, 3)) for _ in range(n)],
                        "label": list("ABCDE"[:n])},
            "answerKey": "ABC"[number % 3],
        }
        for number in range(ITEMS)
        for n in (3 + number % 3,)
    ]  # fmt: skip


def _boolq(rng: random.Random) -> Rows:
    return [
        {"question": _words(rng, 5), "passage": _words(rng, 20), "idx": n, "label": n % 2}
        for n in range(ITEMS)
    ]


def _piqa(rng: random.Random) -> Rows:
    return [
        {"goal": _words(rng, 6), "sol1": _words(rng, 4), "sol2": _words(rng, 5), "label": n % 2}
        for n in range(ITEMS)
    ]


def _winogrande(rng: random.Random) -> Rows:
    return [
        {
            "sentence": f"{_words(rng, 5)} _ {_words(rng, 4)}.",
            "option1": _words(rng, 1),
            "option2": _words(rng, 1),
            "answer": "1" if n < 7 else "2",
        }
        for n in range(ITEMS)
    ]


def _hellaswag(rng: random.Random) -> Rows:
    return [
        {
            "activity_label": _words(rng, 1),
            "ctx_a": _words(rng, 6),
            "ctx_b": _words(rng, 2),
            "endings": [_words(rng, 5) + " [title]" for _ in range(4)],
            "label": str(n % 4),
        }
        for n in range(ITEMS)
    ]


def _mmlu(rng: random.Random) -> Rows:
    return [
        {
            "question": _words(rng, 8),
            "subject": "made up",
            "choices": [_words(rng, 2) for _ in range(4)],
            "answer": n % 4,
        }
        for n in range(ITEMS)
    ]


def _gsm8k(rng: random.Random) -> Rows:
    return [{"question": _words(rng, 6), "answer": f"so\n#### {n}"} for n in range(ITEMS)]


def _pages(rng: random.Random) -> Rows:
    return [{"page": " = Made up = \n " + _words(rng, 60 + 200 * n)} for n in range(3)]
