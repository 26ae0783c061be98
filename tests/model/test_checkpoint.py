"""Weights are read from the files that transformers reads, by every path, and all is hashed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness.errors import UserError
from harness.measure.size import artifact_bytes
from harness.model.checkpoint import INDEX, shards
from harness.model.files.artifact import load, save
from harness.model.files.identity import describe
from harness.model.files.opening import open_meta, open_model
from harness.model.files.tensors import state
from tests.model.decoding import logits
from tests.models import save_checkpoint

Checkpoint = Callable[..., Path]


def published(folder: Path, **options: Any) -> PreTrainedModel:
    """The model as transformers itself opens it."""
    auto: Any = AutoModelForCausalLM
    lm: PreTrainedModel = auto.from_pretrained(folder, dtype="auto", **options)
    return lm


def theirs(lm: PreTrainedModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return lm(ids).logits  # type: ignore[no-any-return]


def streamed_logits(folder: Path, ids: Tensor, scratch: Path) -> Tensor:
    """Logits of what a streamed model saves: every tensor of it went through the stream."""
    save(open_model(str(folder), streaming=True), scratch)
    return logits(load(scratch), ids)


def write_whole(folder: Path, lm: PreTrainedModel) -> None:
    """Put a single file with a model's weights beside what is there."""
    lm.save_pretrained(folder / "whole")
    (folder / "whole" / "model.safetensors").rename(folder / "model.safetensors")


def test_a_whole_file_beside_an_index_is_what_counts(
    checkpoint: Checkpoint,
    random_lm: Callable[..., PreTrainedModel],
    ids: Tensor,
    tmp_path: Path,
) -> None:
    folder = checkpoint("mixtral")
    shards_alone = describe(str(folder)).sha256
    write_whole(folder, random_lm("mixtral", seed=1))
    wanted = theirs(published(folder), ids)
    torch.testing.assert_close(logits(open_model(str(folder)), ids), wanted)
    torch.testing.assert_close(streamed_logits(folder, ids, tmp_path / "saved"), wanted)
    assert shards(folder) == [folder / "model.safetensors"]
    assert artifact_bytes(folder) == (folder / "model.safetensors").stat().st_size
    sha256 = describe(str(folder)).sha256
    assert sha256 != shards_alone
    write_whole(folder, random_lm("mixtral", seed=2))
    assert describe(str(folder)).sha256 != sha256
    assert open_meta(str(folder)).numbers == (0, 1, 2, 3)


@pytest.mark.parametrize("name", ["consolidated.safetensors", "model.fp16.safetensors"])
def test_other_safetensors_are_neither_read_nor_hashed(
    name: str, checkpoint: Checkpoint, ids: Tensor, tmp_path: Path
) -> None:
    folder = checkpoint("qwen2_moe")
    before, sha256 = logits(open_model(str(folder)), ids), describe(str(folder)).sha256
    save_file({"model.norm.weight": torch.zeros(16)}, folder / name)
    assert torch.equal(logits(open_model(str(folder)), ids), before)
    assert torch.equal(streamed_logits(folder, ids, tmp_path / "saved"), before)
    assert describe(str(folder)).sha256 == sha256


def test_of_a_tensor_in_two_shards_the_last_counts(
    checkpoint: Checkpoint, ids: Tensor, tmp_path: Path
) -> None:
    folder = checkpoint("mixtral")
    name, last = "model.norm.weight", sorted(folder.glob("*.safetensors"))[-1]
    where = json.loads((folder / INDEX).read_text())["weight_map"]
    first = folder / sorted(set(where.values()))[0]
    for file, value in ((first, 2.0), (last, 3.0)):
        tensors = load_file(file)
        save_file({**tensors, name: torch.full((16,), value)}, file, metadata={"format": "pt"})
    wanted = theirs(published(folder), ids)
    torch.testing.assert_close(logits(open_model(str(folder)), ids), wanted)
    torch.testing.assert_close(streamed_logits(folder, ids, tmp_path / "saved"), wanted)


def test_shards_without_an_index_are_refused_as_transformers_does(checkpoint: Checkpoint) -> None:
    folder = checkpoint("mixtral")
    (folder / INDEX).unlink()
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        published(folder, use_safetensors=True)
    for ask in (describe, open_model, open_meta):
        with pytest.raises(UserError, match=r"neither model\.safetensors nor model\.saf"):
            ask(str(folder))


def test_a_damaged_index_is_one_sentence(checkpoint: Checkpoint) -> None:
    folder = checkpoint("mixtral")
    (folder / INDEX).write_text('{"weight_map": {}}')
    with pytest.raises(UserError, match="json: 'weight_map' should be of length at least 1"):
        open_model(str(folder))


def opened(folder: Path) -> list[Callable[[], object]]:
    """Every way to open a model."""
    ref = str(folder)
    return [
        lambda: describe(ref),
        lambda: describe(ref, random=True),
        lambda: open_model(ref),
        lambda: open_model(ref, streaming=True),
        lambda: open_meta(ref),
    ]


def test_an_adapter_beside_weights_is_refused(checkpoint: Checkpoint) -> None:
    folder = checkpoint("mixtral")
    save(open_model(str(folder)), folder / "artifact")
    for place in (folder, folder / "artifact"):
        (place / "adapter_config.json").write_text("{}")
        for ask in opened(place):
            with pytest.raises(UserError, match=r"holds an adapter .*; merge it into the weights"):
                ask()


def test_a_distributed_checkpoint_is_refused(checkpoint: Checkpoint) -> None:
    folder = checkpoint("mixtral")
    save_file({"a": torch.zeros(1)}, folder / "shard-00001-model-00001-of-00002.safetensors")
    for ask in opened(folder):
        with pytest.raises(UserError, match="holds a distributed checkpoint"):
            ask()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("transformers_weights", "other.safetensors", "names its weights itself"),
        ("quantization_config", {"quant_method": "gptq"}, r"is quantized already \(gptq\)"),
    ],
)
def test_a_configuration_that_leads_elsewhere_is_refused(
    field: str, value: object, sentence: str, checkpoint: Checkpoint
) -> None:
    folder = checkpoint("mixtral")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: value}))
    for ask in opened(folder):
        with pytest.raises(UserError, match=sentence):
            ask()


def test_of_a_hub_id_an_adapter_is_refused(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint("mixtral")
    monkeypatch.setattr("harness.model.files.opening.describe", lambda ref: describe(str(folder)))
    monkeypatch.setattr(
        "transformers.utils.peft_utils.find_adapter_config_file", lambda ref: "adapter_config.json"
    )
    with pytest.raises(UserError, match="owner/name holds an adapter"):
        open_model("owner/name")


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "merges.txt",
        "tokenizer.model",
        "tokenizer.model.v3",
        "chat_template.jinja",
        "additional_chat_templates/other.jinja",
    ],
)
def test_all_that_transformers_reads_belongs_to_the_identity(name: str, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model")
    before = describe(str(folder)).sha256
    for harmless in ("README.md", ".DS_Store", "training.log"):
        (folder / harmless).write_text("a note")
        assert describe(str(folder)).sha256 == before
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes((file.read_bytes() if file.is_file() else b"") + b" ")
    assert describe(str(folder)).sha256 != before


def test_a_bos_that_is_asked_for_is_another_model(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model")
    before = describe(str(folder)).sha256
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "add_bos_token": True}))
    assert describe(str(folder)).sha256 != before


@pytest.mark.parametrize("named", [True, False])
def test_mixed_number_formats_are_loaded_as_transformers_loads_them(
    named: bool, checkpoint: Checkpoint, ids: Tensor, tmp_path: Path
) -> None:
    folder = checkpoint("mixtral", shard="1GB")
    file = folder / "model.safetensors"
    tensors = {
        name: tensor.float() if "norm" in name else tensor.bfloat16()
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config.pop("dtype")
    (folder / "config.json").write_text(
        json.dumps({**config, "dtype": "bfloat16"} if named else config)
    )
    lm = published(folder)
    streamed = open_model(str(folder), streaming=True)
    assert streamed.config.dtype == lm.config.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in state(streamed).values()} == {torch.bfloat16}
    whole = open_model(str(folder))
    assert torch.equal(streamed_logits(folder, ids, tmp_path / "saved"), logits(whole, ids))


def test_a_checkpoint_that_changes_while_it_is_open_is_refused(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint("mixtral")
    streamed = open_model(str(folder), streaming=True)
    file = sorted(folder.glob("*.safetensors"))[0]
    save_file({n: t + 1 for n, t in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"{file.name} was changed while the model was open"):
        save(streamed, folder / "saved")

    from harness.model.files import opening

    loaded = opening._from_pretrained

    def meddle(*arguments: Any, **options: Any) -> PreTrainedModel:
        lm = loaded(*arguments, **options)
        save_file({n: t + 1 for n, t in load_file(file).items()}, file, metadata={"format": "pt"})
        return lm

    monkeypatch.setattr(opening, "_from_pretrained", meddle)
    with pytest.raises(UserError, match="was changed while it was in use"):
        open_model(str(folder))


def test_generation_settings_follow_the_weights(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = checkpoint("mixtral")
    file = folder / "generation_config.json"
    settings = {"repetition_penalty": 1.5, "temperature": 0.7, "do_sample": False}
    for text in (json.dumps(settings), None):
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        wanted = published(folder).generation_config
        for streaming in (False, True):
            model = open_model(str(folder), streaming=streaming)
            place = tmp_path / f"{text is None}-{streaming}"
            save(model, place)
            for one in (model.frame, load(place).lm):
                assert one.generation_config.to_dict() == wanted.to_dict()
