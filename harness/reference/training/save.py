"""Writing a trained model: bf16 safetensors with the tokenizer beside it."""

from __future__ import annotations

import copy
from pathlib import Path

from transformers import PreTrainedModel

from harness.reference.training.word_tokenizer import tokenizer


def save(model: PreTrainedModel, words: list[str], folder: Path) -> None:
    """Write `model` in bf16 and its tokenizer to `folder`."""
    half = copy.deepcopy(model)
    half.bfloat16()
    half.save_pretrained(folder)
    tokenizer(words).save_pretrained(folder)
