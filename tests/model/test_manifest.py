"""No file of an artifact can be another than was saved and give another number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.calibration.statistics.routing import RouterMass
from harness.calibration.walk import Calibration
from harness.errors import UserError
from harness.model.edits import KeepExperts, SetWeights
from harness.model.files.artifact import load, save
from harness.model.files.opening import open_meta, open_model
from harness.model.files.reopening import reopen
from harness.model.files.tensors import state
from tests.model.decoding import logits
from tests.models import save_checkpoint

SMALL = ("config.json", "edits.json", "generation_config.json", "tokenizer.json")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A small artifact with a tokenizer, in one file of weights."""
    model = open_model(str(save_checkpoint(tmp_path / "base")))
    model.apply(KeepExperts(block=1, experts=(0, 2, 3)))
    save(model, tmp_path / "artifact")
    return tmp_path / "artifact"


@pytest.fixture
def parts(artifact: Path, tmp_path: Path) -> Path:
    """The same in a file per block."""
    save(open_model(str(artifact), streaming=True), tmp_path / "parts")
    return tmp_path / "parts"


def read(folder: Path, *, streaming: bool) -> None:
    """Open an artifact and read every tensor and the tokenizer."""
    model = open_model(str(folder), streaming=streaming)
    assert state(model)
    assert model.tokenizer


def flips(file: Path) -> Iterator[bytes]:
    """The file with one bit changed: at the start, in the header, in the body, at the end."""
    whole = file.read_bytes()
    last = len(whole) - 1
    for place in sorted({0, 9, 40, len(whole) // 3, len(whole) // 2, last - 1}):
        changed = bytearray(whole)
        changed[place] ^= 1
        yield bytes(changed)


@pytest.mark.parametrize("streaming", [False, True])
def test_one_flipped_bit_in_any_file_is_named(streaming: bool, artifact: Path, parts: Path) -> None:
    for folder in (artifact, parts):
        read(folder, streaming=streaming)
        for file in sorted(folder.iterdir()):
            whole = file.read_bytes()
            for changed in flips(file):
                file.write_bytes(changed)
                with pytest.raises(UserError, match=rf"{file.name}"):
                    read(folder, streaming=streaming)
            file.write_bytes(whole)
        read(folder, streaming=streaming)


@pytest.mark.parametrize("name", SMALL)
def test_a_dry_run_looks_at_the_small_files(name: str, artifact: Path) -> None:
    open_meta(str(artifact))
    for changed in flips(artifact / name):
        (artifact / name).write_bytes(changed)
        with pytest.raises(UserError, match=name):
            open_meta(str(artifact))


@pytest.mark.parametrize(
    ("field", "value"),
    [("rms_norm_eps", 1e-3), ("hidden_act", "gelu"), ("rope_parameters", {"rope_theta": 7.0})],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_an_edited_configuration_is_refused(
    field: str, value: object, streaming: bool, artifact: Path, ids: Tensor
) -> None:
    file = artifact / "config.json"
    config = json.loads(file.read_text())
    assert config[field] != value
    file.write_text(json.dumps({**config, field: value}))
    with pytest.raises(UserError, match=r"config\.json was changed after the artifact was made; "):
        open_model(str(artifact), streaming=streaming)
    open_model(str(artifact), streaming=streaming, verify=False)


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "other.safetensors", "merges.txt", "chat_template.jinja"]
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_file_more_that_loading_would_read_is_refused(
    name: str, streaming: bool, artifact: Path
) -> None:
    (artifact / name).write_text("{}")
    with pytest.raises(UserError, match=name):
        read(artifact, streaming=streaming)


def test_a_whole_file_put_beside_the_shards_is_refused(artifact: Path, parts: Path) -> None:
    (artifact / "model.safetensors").rename(parts / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors does not belong to the artifact"):
        load(parts)


def test_harmless_strangers_are_not_minded(artifact: Path) -> None:
    for name in ("notes.md", ".DS_Store", ".gitattributes"):
        (artifact / name).write_text("a note")
    read(artifact, streaming=False)
    open_meta(str(artifact))


def test_a_missing_file_is_named(artifact: Path) -> None:
    (artifact / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer_config\.json is missing; make the artifact"):
        load(artifact)


def test_formats_before_and_after_ours(artifact: Path) -> None:
    file = artifact / "edits.json"
    text = json.loads(file.read_text())
    assert text["format"] == 2
    old = {name: text[name] for name in ("base", "recipe", "calibration", "edits")}
    file.write_text(json.dumps({**old, "format": 1}))
    with pytest.raises(UserError, match="format 1 has no digests"):
        load(artifact)
    assert load(artifact, verify=False).numbers == (0, 1)
    file.write_text(json.dumps({**text, "format": 3}))
    for verify in (True, False):
        with pytest.raises(UserError, match="format 3 is not 2; upgrade moebench"):
            load(artifact, verify=verify)


def test_of_a_streamed_artifact_a_shard_is_compared_when_it_is_first_read(parts: Path) -> None:
    model = open_model(str(parts), streaming=True)
    model.layer(0)
    file = parts / "model-00003-of-00003.safetensors"
    save_file({n: t + 1 for n, t in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"{file.name} was changed after the artifact was made"):
        model.layer(1)


def test_a_shard_that_changes_after_it_was_read_is_refused(parts: Path) -> None:
    model = open_model(str(parts), streaming=True)
    version = model.version(1)
    version.load()
    version.put_away()  # type: ignore[attr-defined]
    file = parts / "model-00003-of-00003.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"{file.name} was changed"):
        version.load()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["artifact", "base"])
def test_a_tokenizer_that_changes_while_the_model_is_open_is_refused(
    name: str, streaming: bool, artifact: Path
) -> None:
    model = open_model(str(artifact.parent / name), streaming=streaming)
    file = artifact.parent / name / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "add_bos_token": True}))
    with pytest.raises(UserError, match="was changed"):
        _ = model.tokenizer


@pytest.mark.parametrize("name", ["artifact", "base"])
def test_a_loaded_model_does_not_change_with_its_file(
    name: str, artifact: Path, ids: Tensor
) -> None:
    file = artifact.parent / name / "model.safetensors"
    whole = file.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = whole[8:start].rstrip() + b" " * (-len(whole[8:start].rstrip()) - 8 & 63)
    file.write_bytes(len(header).to_bytes(8, "little") + header + whole[start:])
    model = open_model(str(file.parent), verify=False)  # what is aligned could stay mapped
    before = logits(model, ids)
    with file.open("r+b") as stream:  # in place, where a map would show it
        stream.seek(8 + len(header))
        stream.write(b"\x3f" * (len(whole) - start))
    assert torch.equal(logits(model, ids), before)


def test_an_artifact_is_opened_again_or_removed(artifact: Path) -> None:
    reopen(artifact)
    file = artifact / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be opened again .* removed: .*model\.safetensors"):
        reopen(artifact)
    assert not artifact.exists()


def test_artifacts_with_the_same_edits_share_no_statistics(
    calibration: Callable[..., Calibration], artifact: Path, tmp_path: Path
) -> None:
    masses = []
    for factor in (1.0, 3.0):
        model = open_model(str(artifact))
        name = "attention.o"
        model.apply(SetWeights.of(0, {name: model.blocks[0].weight(name) * factor}))
        save(model, tmp_path / str(factor))
        again = load(tmp_path / str(factor))
        walk = calibration(cache=True).walk(again)
        masses.append([block.collect(RouterMass()).mass for block in walk][-1])
    assert len({str(load(tmp_path / str(factor)).edits) for factor in (1.0, 3.0)}) == 1
    assert not torch.equal(*masses)
