"""Checkpoints that are not ours: sharded, of all five families, and everything wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.edits import KeepExperts
from harness.errors import UserError
from harness.model.artifact import load, save
from harness.model.source import describe, open_meta, open_model


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
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
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
        load(folder)
    text["edits"] = [{"kind": "shrink", "block": 1}]
    (folder / "edits.json").write_text(json.dumps(text))
    with pytest.raises(UserError, match="unknown edit 'shrink'"):
        load(folder)
    (folder / "edits.json").write_text("[")
    with pytest.raises(UserError, match=r"edits\.json cannot be read"):
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
