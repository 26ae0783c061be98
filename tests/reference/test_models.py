"""The committed models and their tokenizers."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.reference import MODELS
from harness.reference.training.curriculum import words
from harness.reference.training.word_tokenizer import CONTEXT, tokenizer, vocabulary
from harness.reference.world.dice import dice
from harness.reference.world.items import Items
from harness.reference.world.prompts import TASKS, prompt
from harness.reference.world.world import World

CLASSES = {
    "reference/mixtral": "MixtralForCausalLM",
    "reference/qwen2-moe": "Qwen2MoeForCausalLM",
    "reference/deepseek-v2": "DeepseekV2ForCausalLM",
}
FOLDERS = sorted(MODELS.items())


def test_import_is_cheap() -> None:
    code = "import sys, harness.reference; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("name", "folder"), FOLDERS)
def test_loads_and_predicts(name: str, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert type(model).__name__ == CLASSES[name]
    assert model.config.max_position_embeddings == CONTEXT
    assert (folder / "model.safetensors").exists()
    encode = AutoTokenizer.from_pretrained(folder)
    text = "three plus four is seven . two plus two is four . three plus four is"
    with torch.no_grad():
        logits = model(torch.tensor([encode(text)["input_ids"]])).logits
    assert encode.decode(int(logits[0, -1].argmax())) == "seven"


@pytest.mark.parametrize(("name", "folder"), FOLDERS)
def test_tokenizer_is_the_worlds(name: str, folder: Path) -> None:
    known = words(World())
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == vocabulary(known), name


def test_context_tokens_are_a_prefix() -> None:
    world = World()
    encode, records, rng = tokenizer(words(world)), Items(world), dice("prefix")
    for task in TASKS:
        for index in range(40):
            item = prompt(task, records.make(task, rng, True, index))
            for context, continuation in zip(item.contexts, item.continuations, strict=True):
                short, long = (encode(t)["input_ids"] for t in (context, context + continuation))
                assert long[: len(short)] == short
                assert len(short) < len(long) <= CONTEXT
                assert encode.unk_token_id not in long


def test_special_tokens_are_defined_and_never_added() -> None:
    encode = tokenizer(words(World()))
    assert [encode.pad_token_id, encode.bos_token_id, encode.eos_token_id] == [0, 1, 2]
    assert not set(encode("the weather in town is hot .")["input_ids"]) & {0, 1, 2}
    assert encode.unk_token_id not in encode("Unheard words, 12% (spelled)!")["input_ids"]
