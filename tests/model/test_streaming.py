"""Streamed models: the same results to the bit, with a few blocks in memory at a time."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.calibration.statistics.routing import RouterMass
from harness.calibration.walk import Calibration
from harness.errors import Refused, UserError
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.edits import DropBlock, DropMoE, KeepExperts, SetWeights
from harness.model.files.artifact import load, save
from harness.model.files.opening import open_model
from harness.model.files.tensors import state
from harness.model.stored import Stored
from harness.model.versions import Derived
from harness.model.view import MoEModel
from tests.model.decoding import logits
from tests.models import from_config, tiny_config

Calibrate = Callable[..., Calibration]
Recipe = list[tuple[str, dict[str, Any]]]
RECIPES: dict[str, Recipe] = {
    "random": [("random", {"keep": 3})],
    "eep": [("eep", {"keep": 4})],
    "eep-progressive": [("eep", {"keep": 3, "progressive": True})],
    "eep-skip": [("eep-skip", {})],
    "expert-drop": [("expert-drop", {"ratio": 0.5, "scope": "global"})],
    "layer-drop": [("layer-drop", {"drop": 2})],
    "block-drop": [("block-drop", {"drop": 1})],
    "m-smoe": [("m-smoe", {"keep": 3})],
    "wanda": [("wanda", {"sparsity": 0.5})],
    "sparsegpt": [("sparsegpt", {"sparsity": 0.5})],
    "gptq": [("gptq", {"group": 32, "min_tokens": 1})],
    "svd-llm": [("svd-llm", {"ratio": 0.4})],
    "moe-i2-prune": [("moe-i2-prune", {"keep": 4})],
    "moe-i2-decompose": [("moe-i2-decompose", {"ratio": 0.4})],
    "wanda, eep, wanda": [
        ("wanda", {"pattern": "2:4"}),
        ("eep", {"keep": 4}),
        ("wanda", {"sparsity": 0.7, "targets": ["attention"]}),
    ],
}


@pytest.fixture(params=["deepseek_v2", "mixtral", "qwen2_moe"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Layers:
    """Counts what is read from files, and the layers whose parameters are alive."""

    def __init__(self) -> None:
        self.reads = 0
        self.most = 0
        self._made: list[list[weakref.ref[Tensor]]] = []

    def add(self, layer: nn.Module) -> None:
        self._made.append([weakref.ref(parameter) for parameter in layer.parameters()])
        self.most = max(self.most, self.alive())

    def alive(self) -> int:
        """Layers, those that share a parameter counted once."""
        collected = [{id(ref()) for ref in layer if ref() is not None} for layer in self._made]
        groups: list[set[int]] = []
        for one in filter(None, collected):
            sharing = [group for group in groups if group & one]
            groups = [group for group in groups if not group & one]
            groups.append(one.union(*sharing))
        return len(groups)


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> Layers:
    counted = Layers()
    for kind in (Stored, Derived):
        made = kind.load

        def wrapped(self: Any, made: Callable[[Any], nn.Module] = made) -> nn.Module:
            layer = made(self)
            counted.reads += isinstance(self, Stored)
            counted.add(layer)
            return layer

        monkeypatch.setattr(kind, "load", wrapped)
    return counted


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; none may be left."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    gc.collect()
    assert not list(folder.iterdir())


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def run(model: MoEModel, recipe: Recipe, calibration: Calibration) -> None:
    compress(model, [BoundStep(build(name, options), calibration) for name, options in recipe])


def same(one: Path, other: Path, ids: Tensor) -> None:
    """Two artifacts are equal to the bit, though not file by file."""
    ours, theirs = load(one), load(other)
    tensors, others = state(ours), state(theirs)
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert {t.dtype for t in tensors.values()} == {t.dtype for t in others.values()}
    assert torch.equal(logits(ours, ids), logits(theirs, ids))
    for name in ("config.json", "generation_config.json"):
        assert (one / name).read_text() == (other / name).read_text()
    assert manifest(one) == manifest(other)


def manifest(folder: Path) -> dict[str, Any]:
    """All of it but digests: of the files one model has one for all blocks, the other one each."""
    text: dict[str, Any] = json.loads((folder / "edits.json").read_text())
    return {name: value for name, value in text.items() if name not in ("files", "sha256")}


# Every recipe on one family, and what reads and changes most on the others; the rest when asked.
CASES = [
    pytest.param(
        name,
        family,
        marks=()
        if family == "qwen2_moe" or name in ("wanda, eep, wanda", "svd-llm")
        else pytest.mark.long,
    )
    for name, family in itertools.product(RECIPES, ("qwen2_moe", "deepseek_v2", "mixtral"))
]


@pytest.mark.parametrize(("name", "family"), CASES)
def test_equal_to_the_bit(
    name: str,
    family: str,
    checkpoint: Callable[..., Path],
    calibration: Calibrate,
    layers: Layers,
    scratch: Path,
    ids: Tensor,
    tmp_path: Path,
) -> None:
    folder = checkpoint(family)
    before = hashes(folder)
    model = open_model(str(folder))
    run(model, RECIPES[name], calibration())
    save(model, tmp_path / "whole")
    assert layers.reads == 0
    streamed = open_model(str(folder), streaming=True)
    assert layers.reads == 0
    run(streamed, RECIPES[name], calibration())
    assert streamed.edits == model.edits
    save(streamed, tmp_path / "streamed")
    window = 3 if name == "moe-i2-prune" else 1
    assert 1 <= layers.most <= window + 1
    assert hashes(folder) == before
    same(tmp_path / "streamed", tmp_path / "whole", ids)


def test_an_artifact_is_streamed_and_compressed_further(
    family: str,
    checkpoint: Callable[..., Path],
    calibration: Calibrate,
    layers: Layers,
    scratch: Path,
    ids: Tensor,
    tmp_path: Path,
) -> None:
    model = open_model(str(checkpoint(family)))
    model.apply(KeepExperts(block=1, experts=(0, 2, 3, 5), router="preserve"))
    model.apply(KeepExperts(block=2, experts=(1, 2, 4, 5), router="mask"))
    model.apply(DropBlock(block=0))
    save(model, tmp_path / "first")
    for name, streaming in (("whole", False), ("streamed", True)):
        again = open_model(str(tmp_path / "first"), streaming=streaming)
        assert again.streamed == streaming
        run(again, RECIPES["wanda"] + RECIPES["svd-llm"], calibration())
        save(again, tmp_path / name)
    assert layers.most <= 2
    same(tmp_path / "streamed", tmp_path / "whole", ids)


def test_blocks_are_read_when_needed_and_once_a_walk(
    checkpoint: Callable[..., Path], calibration: Calibrate, layers: Layers, scratch: Path
) -> None:
    model = open_model(str(checkpoint("qwen2_moe")), streaming=True)
    model.apply(KeepExperts(block=0, experts=(1, 4)))
    model.apply(DropMoE(block=3))
    assert model.moe_blocks()[0].experts == (1, 4)
    assert all(block.matrices() for block in model.blocks)
    assert model.describe()["blocks"] == 4
    assert layers.reads == 0
    run(model, RECIPES["wanda"], calibration())
    assert layers.reads == 3  # nobody asks what leaves the last block, which has no experts left
    assert len(list(next(scratch.iterdir()).iterdir())) == 2  # the third is on the shelf
    for block in calibration().walk(model):
        block.outputs().materialise()
    assert layers.reads <= 3 + 4


def test_what_a_walk_found_stays(
    checkpoint: Callable[..., Path], layers: Layers, scratch: Path
) -> None:
    folder = str(checkpoint("mixtral"))
    whole, model = open_model(folder), open_model(folder, streaming=True)
    versions = model.snapshot()
    for _ in range(2):  # the second time on what was written to a file
        for block in model.blocks:
            name = "experts.2.down"
            model.apply(SetWeights.of(block.index, {name: block.weight(name) * 2}))
        for block, base in zip(model.blocks, whole.blocks, strict=True):
            before = versions[block.index][0].load().state_dict()
            assert all(torch.equal(before[k], t) for k, t in base.layer.state_dict().items())
    for block, base in zip(model.blocks, whole.blocks, strict=True):
        assert torch.equal(block.weight("experts.2.down"), base.weight("experts.2.down") * 4)
    assert layers.most <= 3  # a version, the one before it, and the one it is read from


@pytest.mark.parametrize("size", [1, 3])
def test_windows_states_and_losses(
    size: int,
    checkpoint: Callable[..., Path],
    calibration: Calibrate,
    layers: Layers,
) -> None:
    folder, tokens = str(checkpoint("mixtral")), calibration(padded=True)
    collected: list[tuple[list[Tensor], list[float], list[float]]] = []
    for streaming in (False, True):
        model = open_model(folder, streaming=streaming)
        losses, sums = [], []
        with torch.no_grad():
            states = tokens.hidden_states(model)
            for window in tokens.windows(model, size):
                sums += [float(block.collect(RouterMass()).mass.sum()) for block in window]
                block = window[0]
                tried = [
                    block.run(block.inputs, KeepExperts(block=block.index, experts=(e, 5)))
                    for e in range(5)
                ]
                losses += tokens.losses(model, tried)
        collected.append((states, sums, losses))
    assert all(
        torch.equal(one, other) for one, other in zip(collected[0][0], collected[1][0], strict=True)
    )
    assert collected[0][1:] == collected[1][1:]
    assert layers.most <= size + 2  # and a candidate
    if size == 1:  # hidden states, the walk, and the blocks after each
        assert layers.reads <= 4 + 4 + (3 + 2 + 1) + 3


def test_no_tensor_is_kept_elsewhere(
    calibration: Calibrate,
    monkeypatch: pytest.MonkeyPatch,
    scratch: Path,
    tmp_path: Path,
) -> None:
    def held() -> int:
        tensors = (o for o in gc.get_objects() if issubclass(type(o), Tensor) and not o.is_meta)
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(storages.values())

    load_one, seen = Stored.load, []

    def watched(self: Stored) -> nn.Module:
        layer = load_one(self)
        seen.append(held())
        return layer

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_local_experts": 4}
    config = tiny_config("mixtral", num_hidden_layers=12, **sizes)
    from_config(config).save_pretrained(tmp_path / "deep", max_shard_size="50KB")
    folder = str(tmp_path / "deep")
    block = sum(tensor.nbytes for tensor in open_model(folder).layer(0).state_dict().values())
    monkeypatch.setattr(Stored, "load", watched)
    model = open_model(folder, streaming=True)
    gc.collect()
    before = held()
    run(model, [("eep", {"keep": 3, "progressive": True}), *RECIPES["wanda"]], calibration())
    assert len(seen) <= 24 + 12  # with follow="both" a block may be read for either of its versions
    # Of 12: two blocks, the tensors of an edit on their way into one, states and statistics.
    assert max(seen) - before < 6 * block


def test_dtype(checkpoint: Callable[..., Path]) -> None:
    folder = str(checkpoint("deepseek_v2"))
    whole = open_model(folder, dtype=torch.bfloat16)
    model = open_model(folder, dtype=torch.bfloat16, streaming=True)
    assert model.dtype == torch.bfloat16
    assert model.config.to_dict() == whole.config.to_dict()
    tensors, others = state(model), state(whole)
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


@pytest.mark.parametrize("family", ["mistral", "olmoe", "qwen3_moe", "deepseek", "llama", "qwen2"])
def test_other_families(family: str, checkpoint: Callable[..., Path]) -> None:
    folder = str(checkpoint(family))
    tensors, others = state(open_model(folder, streaming=True)), state(open_model(folder))
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


def test_it_is_never_whole(checkpoint: Callable[..., Path], calibration: Calibrate) -> None:
    model = open_model(str(checkpoint("mixtral")), streaming=True)
    with pytest.raises(Refused, match="is streamed and never whole in memory"):
        _ = model.lm


def test_a_checkpoint_that_does_not_fit(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint("mixtral", shard="1GB")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.2.block_sparse_moe.experts.3.w3.weight"
    for broken, problem in (
        ({k: t for k, t in tensors.items() if k != name}, "1 missing"),
        ({**tensors, name: tensors[name][:1].contiguous()}, "1 of another shape"),
        ({**tensors, "model.layers.0.more": torch.zeros(1)}, "1 left over"),
    ):
        save_file(broken, file, metadata={"format": "pt"})
        with pytest.raises(UserError, match=f"configuration do not agree: {problem}"):
            open_model(str(folder), streaming=True)
    stale = {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(1)}
    save_file(stale, file, metadata={"format": "pt"})
    open_model(str(folder), streaming=True)


def test_a_full_scratch_folder(
    checkpoint: Callable[..., Path], calibration: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(str(checkpoint("mixtral")), streaming=True)
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    with pytest.raises(UserError, match=r"no temporary folder can be made .*; set TMPDIR"):
        run(model, RECIPES["wanda"], calibration())
