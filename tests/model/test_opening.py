"""Checkpoints that are not ours: sharded, of all families, and everything wrong with them."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from harness.errors import UserError
from harness.measure.size import measure_size
from harness.model.edits import DropBlock, Edit, KeepExperts
from harness.model.families.shipped import known
from harness.model.files.artifact import load, save
from harness.model.files.identity import describe, shipped_config
from harness.model.files.opening import open_meta, open_model
from harness.model.tokenizer import load_tokenizer
from tests.models import save_checkpoint


def test_a_sharded_checkpoint_is_the_model_that_was_saved(
    family: str,
    checkpoint: Callable[..., Path],
    random_lm: Callable[..., PreTrainedModel],
    ids: Tensor,
) -> None:
    folder = checkpoint(family)
    assert len(list(folder.glob("*.safetensors"))) > 2
    model = open_model(str(folder))
    with torch.no_grad():
        ours = model.lm(ids).logits
        theirs = random_lm(family)(ids).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert describe(str(folder)).family == family


def test_the_dry_run_model_has_the_same_blocks(
    family: str, checkpoint: Callable[..., Path]
) -> None:
    folder = str(checkpoint(family))
    meta, real = open_meta(folder), open_model(folder)
    assert meta.device.type == "meta"
    for one, other in zip(meta.blocks, real.blocks, strict=True):
        assert (one.experts, one.top_k) == (other.experts, other.top_k)
        assert one.matrices() == other.matrices()


def test_identity_follows_the_weights(
    checkpoint: Callable[..., Path], random_lm: Callable[..., PreTrainedModel]
) -> None:
    folder = checkpoint("mixtral")
    before = describe(str(folder)).sha256
    assert describe(str(folder)).sha256 == before
    random_lm("mixtral", seed=1).save_pretrained(folder, max_shard_size="60KB")
    assert describe(str(folder)).sha256 != before


def test_missing_and_damaged_checkpoints(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = checkpoint("mixtral")
    shard = sorted(folder.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="truncated or corrupt"):
        open_model(str(folder))
    shard.unlink()
    with pytest.raises(UserError, match="shards are missing"):
        open_model(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: it is not JSON, or is cut short"):
        open_model(str(folder))
    with pytest.raises(UserError, match="no such folder"):
        open_model("no/such/folder/at/all")


def test_a_pickle_checkpoint_is_refused(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint("olmoe")
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="pickle"):
        open_model(str(folder))


def test_a_configuration_with_a_value_of_the_wrong_kind_is_one_sentence(tmp_path: Path) -> None:
    text = {"model_type": "mixtral", "num_local_experts": "x"}
    (tmp_path / "config.json").write_text(json.dumps(text))
    with pytest.raises(
        UserError, match=r"config\.json: 'num_local_experts' should be a whole number"
    ):
        describe(str(tmp_path))


def test_an_unknown_family_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mixtrall"}))
    with pytest.raises(UserError, match="Did you mean 'mixtral'"):
        describe(str(tmp_path))


def test_a_checkpoint_with_a_missing_tensor_is_refused(checkpoint: Callable[..., Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = checkpoint("qwen2_moe", shard="1GB")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.experts.3.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError):
        open_model(str(folder))


def test_damaged_artifacts(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    model = open_model(str(checkpoint("mixtral")))
    model.apply(KeepExperts(block=1, experts=(0, 4, 5)))
    folder = tmp_path / "artifact"
    save(model, folder)
    with pytest.raises(UserError, match="not empty"):
        save(model, folder)
    text = json.loads((folder / "edits.json").read_text())
    text["edits"][0]["experts"] = [0, 4]
    (folder / "edits.json").write_text(json.dumps(text))
    with pytest.raises(UserError, match="another shape than the edits say"):
        load(folder, verify=False)
    text["edits"] = [{"kind": "shrink", "block": 1}]
    (folder / "edits.json").write_text(json.dumps(text))
    with pytest.raises(UserError, match="unknown edit 'shrink'"):
        load(folder, verify=False)
    (folder / "edits.json").write_text("[")
    with pytest.raises(UserError, match=r"edits\.json: it is not JSON, or is cut short"):
        load(folder)


def test_an_artifact_keeps_the_base_configuration(
    family: str, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = checkpoint(family)
    model = open_model(str(folder))
    model.apply(KeepExperts(block=2, experts=(0, 4, 5)))
    save(model, tmp_path / "artifact")
    base = json.loads((folder / "config.json").read_text())
    ours = json.loads((tmp_path / "artifact" / "config.json").read_text())
    base.pop("transformers_version")
    ours.pop("transformers_version")
    assert ours == base


PARAMETERS = {
    "Qwen/Qwen1.5-MoE-A2.7B": 14_315_784_192,
    "deepseek-ai/DeepSeek-V2-Lite": 15_706_484_224,
    "deepseek-ai/deepseek-moe-16b-base": 16_375_728_128,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 46_702_792_704,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
}
"""Of the published shapes: 46.7, 14.3, 15.7, 16.4 and 7.24 billion."""


def test_known_full_size_models_open_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert known() == tuple(sorted(PARAMETERS))
    for ref, parameters in PARAMETERS.items():
        info, model = describe(ref, offline=True), open_meta(ref)
        assert (info.ref, info.label, info.family) == (ref, ref, model.family.model_type)
        size = measure_size(model, None)
        assert size.parameters == parameters
        assert bool(size.expert_parameters) == bool(model.experts) == (not model.family.dense)


def test_only_a_hub_id_has_a_shipped_configuration(
    checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = "mistralai/Mistral-7B-v0.1"
    assert shipped_config(ref) is not None
    assert shipped_config("mistralai/other") is None
    assert shipped_config("reference/mixtral") is None
    checkpoint("olmoe").rename(tmp_path / "olmoe-here")
    (tmp_path / "mistralai").mkdir()
    (tmp_path / "olmoe-here").rename(tmp_path / ref)
    monkeypatch.chdir(tmp_path)
    assert shipped_config(ref) is None
    assert describe(ref, offline=True).family == "olmoe"


def test_a_real_run_asks_the_hub_even_for_a_known_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(source: object, **options: object) -> None:
        asked.append((source, options["local_files_only"]))
        raise OSError("no hub here")

    monkeypatch.setattr(AutoConfig, "from_pretrained", fetch)
    for ask in (describe, open_model):
        with pytest.raises(UserError, match="the hub did not give it"):
            ask("mistralai/Mistral-7B-v0.1")
    assert asked == [("mistralai/Mistral-7B-v0.1", False)] * 2


@pytest.mark.parametrize("model_type", ["deepseek", "deepseek_v2", "llama"])
def test_byte_level_tokenizers_keep_their_spaces(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The check that later releases of transformers have; without it they fail as earlier ones do.
    check = "transformers.TokenizersBackend._tokenizer_json_has_byte_level"
    monkeypatch.setattr(check, lambda *a, **o: False, raising=False)
    steps = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = steps, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(initial_alphabet=steps.alphabet(), special_tokens=["<s>"])
    words.train_from_iterator(["read a b, not ab"], trainer)
    words.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer = load_tokenizer(tmp_path, "mine")
    ids = tokenizer.encode("read a b", add_special_tokens=False)
    assert ids == words.encode("read a b").ids
    assert tokenizer.decode(ids) == "read a b"
    tokenizer.save_pretrained(tmp_path / "again")
    (tmp_path / "again" / "config.json").write_text((tmp_path / "config.json").read_text())
    again = load_tokenizer(tmp_path / "again", "again")
    assert again.encode("read a b") == tokenizer.encode("read a b")


def test_a_bos_that_the_tokenizer_config_asks_for_is_added(tmp_path: Path) -> None:
    words = Tokenizer(models.BPE({"<s>": 0, "a": 1, "\u0120": 2}, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.add_special_tokens(["<s>"])
    words.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>"}
    for asked, wanted in ((True, [0, 1]), (False, [1])):
        config_file = tmp_path / "tokenizer_config.json"
        config_file.write_text(json.dumps(config | {"add_bos_token": asked}))
        assert load_tokenizer(tmp_path, "mine")("a")["input_ids"] == wanted


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("edit", [KeepExperts(block=1, experts=(0, 2)), DropBlock(block=1)])
def test_an_artifact_without_its_edits_is_one_sentence(
    edit: Edit, streaming: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = open_model(str(save_checkpoint(tmp_path / "whole")))
    model.apply(edit)
    save(model, tmp_path / "artifact")
    (tmp_path / "artifact" / "edits.json").unlink()
    capfd.readouterr()
    with pytest.raises(UserError, match=r"the first is model\.layers\.1\.") as refused:
        open_model(str(tmp_path / "artifact"), streaming=streaming)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")
