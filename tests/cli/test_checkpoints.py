"""The verbs on checkpoints as people have them: a right number, or one sentence and exit code 2."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from harness.errors import UserError
from harness.model.files.opening import open_model
from harness.model.tokenizer import load_tokenizer
from tests.models import from_config, save_checkpoint

from .test_damage import Verb, compress, compress_streaming, evaluate, export, moebench

Change = Callable[[Path], None]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "models" / "base")


def says(**values: Any) -> Change:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def holds(name: str, text: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


def tensor(part: str, make: Callable[[torch.Tensor], torch.Tensor | None]) -> Change:
    """Change the first tensor with a name that holds `part`; None takes it out."""

    def change(folder: Path) -> None:
        file = folder / "model.safetensors"
        tensors = load_file(file)
        name = next(name for name in sorted(tensors) if part in name)
        made = make(tensors.pop(name))
        if made is not None:
            tensors[name] = made
        save_file(tensors, file, metadata={"format": "pt"})

    return change


def extra(folder: Path) -> None:
    file = folder / "model.safetensors"
    more = {"model.layers.0.extra.weight": torch.ones(2)}
    save_file(load_file(file) | more, file, metadata={"format": "pt"})


def header(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"dtype":"F32"', b'"dtype":"Q99"', 1))


def index(where: object) -> Change:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        text = {"metadata": {"total_size": 1}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(text))

    return change


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def sentencepiece_alone(folder: Path) -> None:
    no_tokenizer(folder)
    (folder / "tokenizer.model").write_bytes(b"\x0a\x0b")


def one_token_more(folder: Path) -> None:
    words: Any = load_tokenizer(folder, "mine")
    words.add_tokens(["office-chair"])
    words.save_pretrained(folder)


REFUSED: dict[str, tuple[Change, str]] = {
    "field": (says(scoring_func="sigmoid"), "scoring_func 'sigmoid'"),
    "pad": (says(pad_token_id=32000), "pad_token_id 32000"),
    "top-k": (says(num_experts_per_tok=5), "num_experts_per_tok 5"),
    "gptq": (says(quantization_config={"quant_method": "gptq"}), "quantized already (gptq)"),
    "beside": (holds("quantize_config.json", "{}"), "it has quantize_config.json"),
    "dtype": (
        tensor(".w1.weight", lambda t: t.to(torch.int8)),
        "quantized already",
    ),
    "shape": (
        tensor(".w1.weight", lambda t: t[:-1].clone()),
        "of another shape than the configuration say",
    ),
    "missing": (tensor(".w1.weight", lambda _t: None), "1 missing, the first is"),
    "extra": (extra, "extra.weight"),
    "header": (header, "truncated or corrupt"),
    "index": (index({"a": "gone.safetensors"}), "gone.safetensors"),
    "shapes": (says(hidden_size=36), ""),
    "act": (says(hidden_act="banana"), "banana"),
    "rope": (says(rope_scaling={"type": "yarn"}), ""),
    "heads": (says(num_key_value_heads=3), "num_key_value_heads 3"),
    "generation": (holds("generation_config.json", "{"), "generation_config.json"),
}
"""Refused by every verb that opens the model."""
NO_TOKENS: dict[str, tuple[Change, str]] = {
    "none": (no_tokenizer, "has no tokenizer; put its tokenizer.json"),
    "length": (holds("tokenizer_config.json", '{"model_max_length": "x"}'), "the tokenizer of"),
    "larger": (one_token_more, "1 tokens beyond the"),
    "sentencepiece": (sentencepiece_alone, "tokenizer.model"),
}
"""Refused by the verbs that read text."""


def is_one_sentence(result: Any, part: str) -> bool:
    lines = result.stderr.strip().splitlines()
    return (
        result.exit_code == 2
        and result.stdout == ""
        and lines[-1].startswith("moebench: ")
        and part in lines[-1]
    )


EACH = (evaluate, compress, compress_streaming, export)


@pytest.mark.parametrize(("name", "verb"), zip(REFUSED, itertools.cycle(EACH)))
def test_what_cannot_be_run_right_is_one_sentence(name: str, verb: Verb, base: Path) -> None:
    change, part = REFUSED[name]
    change(base)
    result = moebench(*verb(base))
    assert is_one_sentence(result, part), (result.stderr, result.exception)
    assert sorted(path.name for path in base.parent.iterdir()) == ["base"]
    for streaming in (False, True):
        with pytest.raises(UserError, match=re.escape(part)):
            open_model(str(base), streaming=streaming)


@pytest.mark.parametrize(("name", "verb"), zip(NO_TOKENS, itertools.cycle((evaluate, compress))))
def test_a_tokenizer_that_cannot_be_used_is_one_sentence(name: str, verb: Verb, base: Path) -> None:
    change, part = NO_TOKENS[name]
    change(base)
    result = moebench(*verb(base))
    assert is_one_sentence(result, part), (result.stderr, result.exception)


@pytest.mark.parametrize("verb", EACH)
def test_what_changes_no_number_changes_none(verb: Verb, base: Path) -> None:
    assert moebench(*verb(base)).exit_code == 0
    made = [path for path in base.parent.iterdir() if path.name != "base"]
    for path in made:
        path.rename(base.parent.parent / path.name)
    says(output_router_logits=True, output_attentions=True, use_cache=False, return_dict=False)(
        base
    )
    says(temperature=0.5, do_sample=True, max_length=20, bos_token_id=32000)(base)
    result = moebench(*verb(base))
    assert result.exit_code == 0, (result.stderr, result.exception)
    for path in made:
        for file in path.glob("*.safetensors"):
            before, after = load_file(base.parent.parent / path.name / file.name), load_file(file)
            assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_text_with_half_a_character_is_named(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "calibration.jsonl"
    path.write_text(json.dumps({"text": "the cat sat"}) + "\n" + r'{"text": "\ud83d"}')
    result = moebench(*compress(base), "--method", "frequency", "--calibration", path)
    assert is_one_sentence(result, "calibration.jsonl:2: U+D83D is half a character")


def test_an_odd_inner_size_gives_a_number(base: Path) -> None:
    says(intermediate_size=42)(base)
    torch.manual_seed(0)
    from_config(AutoConfig.from_pretrained(base)).save_pretrained(base)
    result = moebench(*evaluate(base), "--json")
    assert result.exit_code == 0, result.stderr
    assert math.isfinite(json.loads(result.stdout)["tasks"]["boolq"]["metrics"]["acc"])
