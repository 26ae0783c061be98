"""Head and embedding are one tensor where transformers makes them one, by every path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness.errors import UserError
from harness.evaluate.scorer import PrefixLM
from harness.export.writing import export
from harness.measure.size import measure_size
from harness.model.files.artifact import load, save
from harness.model.files.opening import open_meta, open_model
from harness.model.files.random_values import materialise
from harness.model.shell import settle
from harness.model.tokenizer import load_tokenizer
from harness.model.view import MoEModel
from tests.model.decoding import logits
from tests.models import draw_weights, from_config, save_checkpoint, tiny_config

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FAMILIES = ("mixtral", "qwen2_moe", "deepseek_v2", "deepseek", "llama")
CASES = {
    # What the files hold, and whether transformers makes the two one tensor.
    "tied, without a head": ((EMBEDDING,), False, True),
    "tied, with a head of its own": ((EMBEDDING, HEAD), False, False),
    "tied, with an equal head": ((EMBEDDING, HEAD), True, True),
    "tied, with only a head": ((HEAD,), False, True),
}


def write(folder: Path, family: str, names: tuple[str, ...], *, equal: bool) -> Path:
    """A checkpoint whose configuration ties, with these two tensors, equal or not."""
    lm = from_config(tiny_config(family, tie_word_embeddings=False), dtype=torch.float32)
    draw_weights(lm, 0)
    if equal:
        lm.lm_head.weight.data = lm.model.embed_tokens.weight.data.clone()
    lm.save_pretrained(folder)
    file, config = folder / "model.safetensors", folder / "config.json"
    tensors = load_file(file)
    for name in {EMBEDDING, HEAD} - set(names):
        del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})
    config.write_text(json.dumps({**json.loads(config.read_text()), "tie_word_embeddings": True}))
    return folder


def theirs(folder: Path, ids: Tensor) -> Tensor:
    """Logits as transformers gives them, its weights aligned in memory as ours are."""
    auto: Any = AutoModelForCausalLM
    config = json.loads((folder / "config.json").read_text())
    experts = {} if config["model_type"] == "llama" else {"experts_implementation": "grouped_mm"}
    lm: PreTrainedModel = auto.from_pretrained(folder, **experts)
    settle(lm)
    with torch.no_grad():
        return lm(ids).logits  # type: ignore[no-any-return]


def one(model: MoEModel) -> bool:
    """True if the two are one tensor."""
    named = dict(model.frame.named_parameters(remove_duplicate=False))
    return named[HEAD] is named[EMBEDDING]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(
    case: str, family: str, ids: Tensor, tmp_path: Path
) -> None:
    names, equal, tied = CASES[case]
    folder = write(tmp_path / "model", family, names, equal=equal)
    wanted = theirs(folder, ids)
    whole, streamed = (open_model(str(folder), streaming=way) for way in (False, True))
    places = {}
    for name, model in (("whole", whole), ("streamed", streamed)):
        assert one(model) == tied == model.config.tie_word_embeddings
        places[name] = tmp_path / name
        save(model, places[name])
        exported = tmp_path / f"{name}-exported"
        export(model, exported, "hf")
        assert torch.equal(theirs(exported, ids), wanted)
    assert torch.equal(logits(whole, ids), wanted)
    for place in places.values():
        assert torch.equal(logits(load(place), ids), wanted)
        again = tmp_path / f"{place.name}-again"
        save(open_model(str(place), streaming=True), again)
        assert torch.equal(logits(open_model(str(again)), ids), wanted)


@pytest.mark.parametrize("case", CASES)
def test_a_model_without_values_has_as_many_parameters(case: str, tmp_path: Path) -> None:
    names, equal, tied = CASES[case]
    folder = write(tmp_path / "model", "mixtral", names, equal=equal)
    counts = {
        measure_size(model, None).parameters
        for model in (open_model(str(folder)), open_meta(str(folder)))
    }
    assert len(counts) == 1
    drawn = open_meta(str(folder))
    materialise(drawn, "cpu", seed=0)
    assert one(drawn) == tied


def test_equal_in_the_number_format_that_is_loaded(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "mixtral", (EMBEDDING, HEAD), equal=True)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors[HEAD] = tensors[HEAD] * (1 + 2**-20)
    save_file(tensors, file, metadata={"format": "pt"})
    auto: Any = AutoModelForCausalLM
    for dtype, tied in ((torch.float32, False), (torch.bfloat16, True)):
        lm = auto.from_pretrained(folder, dtype=dtype)
        assert (lm.lm_head.weight is lm.model.embed_tokens.weight) == tied
        for streaming in (False, True):
            assert one(open_model(str(folder), dtype=dtype, streaming=streaming)) == tied


@pytest.mark.parametrize("left_out", [EMBEDDING, HEAD])
def test_what_is_not_tied_must_be_there(left_out: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "mixtral", tuple({EMBEDDING, HEAD} - {left_out}), equal=False)
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tie_word_embeddings": False}))
    for streaming in (False, True):
        with pytest.raises(UserError, match=f"missing.*{left_out}"):
            open_model(str(folder), streaming=streaming)


def test_lm_eval_s_wrapper_ties_nothing(ids: Tensor, tmp_path: Path) -> None:
    auto: Any = AutoModelForCausalLM
    folder = write(tmp_path / "model", "mixtral", (EMBEDDING, HEAD), equal=False)
    tokenizer = load_tokenizer(save_checkpoint(tmp_path / "other"), "other")
    wanted = theirs(folder, ids)
    for lm in (open_model(str(folder)).lm, auto.from_pretrained(folder)):
        PrefixLM(lm, tokenizer)
        with torch.no_grad():
            torch.testing.assert_close(lm(ids).logits, wanted)
    assert lm.config.tie_word_embeddings  # as it came
