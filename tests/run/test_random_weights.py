"""Random weights: full-size models measured without their checkpoints."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.errors import UserError
from harness.model.edits import KeepExperts, QuantizeWeights
from harness.model.files.random_values import materialise, release, stored_bytes
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.view import Block, MoEModel
from harness.plan.cell import Cell
from harness.plan.cells import cells
from harness.plan.check import check
from harness.plan.suite import Suite
from harness.records.record import Record
from harness.records.store import Store
from harness.run.job import Job
from harness.run.preview import state_of
from harness.run.room import check_room
from harness.run.stages.random_models import RandomModels, base_beside
from tests.models import from_config, tiny_config

SUITE = """\
title = "Random weights"
models = ["{model}"]
weights = "random"

[protocol]
tasks = []
average = []
perplexity = []
measure = {measure}
dtype = "{dtype}"
sequence_length = 16
new_tokens = 2
repetitions = 5
threads = 1

[[recipes]]
name = "half of the experts"
steps = [{{ method = "random", ratio = 0.5 }}]

[[recipes]]
name = "half of the experts, packed"
steps = [
    {{ method = "random", ratio = 0.5 }},
    {{ method = "rtn", group = 32, targets = ["experts", "attention"] }},
]

[[recipes]]
name = "2:4"
steps = [{{ method = "wanda", pattern = "2:4" }}]
"""
MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"


def suite(model: str, *, measure: str = '["size"]', dtype: str = "bfloat16") -> Suite:
    text = SUITE.format(model=model, measure=measure, dtype=dtype)
    return Suite.parse(text, name="random", source="suites/random.toml")


def packed(model: MoEModel, scheme: Scheme) -> None:
    """Quantize every expert and every attention matrix of a model on the meta device."""
    for block in model.blocks:
        yielded = {
            matrix.name: Quantized.blank(scheme, matrix.shape, block.weight(matrix))
            for matrix in block.matrices("experts", "attention")
        }
        model.apply(QuantizeWeights.of(block.index, yielded))


@pytest.fixture
def on_meta() -> Callable[[str], MoEModel]:
    from harness.model.files.skeleton import build_on_meta

    def make(family: str) -> MoEModel:
        config = tiny_config(family)
        config.dtype = torch.float32
        lm = build_on_meta(config, experts="grouped_mm", attention="sdpa")
        return MoEModel(lm, ref=family, sha256="meta")

    return make


def logits(model: MoEModel) -> torch.Tensor:
    ids = torch.arange(12).view(1, 12)
    with torch.no_grad():
        out: torch.Tensor = model.lm(input_ids=ids).logits
    return out


@pytest.mark.parametrize("family", ["deepseek", "deepseek_v2", "mixtral", "qwen2_moe", "mistral"])
def test_a_materialised_model_is_whole(family: str, on_meta: Callable[[str], MoEModel]) -> None:
    model = on_meta(family)
    materialise(model, "cpu", seed=0)
    lm = model.lm
    built = from_config(tiny_config(family))
    real = dict(built.named_buffers())
    assert real.keys() == dict(lm.named_buffers()).keys()
    for name, buffer in lm.named_buffers():  # frequencies and the like: not random
        assert torch.equal(buffer, real[name]), name
    shapes = {name: parameter.shape for name, parameter in built.named_parameters()}
    assert {name: parameter.shape for name, parameter in lm.named_parameters()} == shapes
    tied = lm.lm_head.weight is lm.get_input_embeddings().weight
    assert tied == bool(tiny_config(family).tie_word_embeddings)
    assert bool((lm.model.norm.weight == 1).all())
    matrix = model.blocks[1].weight("attention.q")
    assert 0.01 < float(matrix.std()) < 0.03
    assert torch.isfinite(logits(model)).all()


def test_values_follow_the_seed(on_meta: Callable[[str], MoEModel]) -> None:
    outputs = []
    for seed in (0, 0, 1):
        model = on_meta("mixtral")
        materialise(model, "cpu", seed=seed)
        outputs.append(logits(model))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("symmetric", [False, True])
def test_packed_weights_are_like_the_dense_ones(
    symmetric: bool, on_meta: Callable[[str], MoEModel]
) -> None:
    model = on_meta("mixtral")
    packed(model, Scheme(bits=4, group=8, symmetric=symmetric))
    materialise(model, "cpu", seed=0, dtype=torch.bfloat16)
    block = model.blocks[0]
    weight = block.quantized("experts.0.gate")
    assert weight is not None
    assert weight.scales.dtype == torch.bfloat16
    assert bool((weight.scales > 0).all())
    assert 0.01 < float(block.weight("experts.0.gate").float().std()) < 0.04
    assert torch.isfinite(logits(model)).all()
    dense = on_meta("mixtral")
    materialise(dense, "cpu", seed=0, dtype=torch.bfloat16)
    assert stored_bytes(model) < stored_bytes(dense)


def test_a_model_that_lies_in_another_takes_no_memory_of_its_own(
    on_meta: Callable[[str], MoEModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.model.files.random_values.SMALL", 1024)
    model, base = on_meta("mixtral"), on_meta("mixtral")
    for block in model.blocks:
        model.apply(KeepExperts(block=block.index, experts=(0, 2, 5)))
    materialise(model, "cpu", seed=0)
    shapes = {name: p.shape for name, p in model.lm.named_parameters()}
    release(model)
    assert Block(model, 0).layer.mlp.experts.gate_up_proj.is_meta
    materialise(base, "cpu", seed=0)
    materialise(model, "cpu", seed=0, lender=base)
    assert {name: p.shape for name, p in model.lm.named_parameters()} == shapes
    lent = {p.untyped_storage().data_ptr(): p for p in base.lm.parameters()}
    spans = []
    for parameter in model.lm.parameters():
        if parameter.nbytes >= 1024:
            assert parameter.untyped_storage().data_ptr() in lent
            spans.append((parameter.data_ptr(), parameter.data_ptr() + parameter.nbytes))
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert torch.isfinite(logits(model)).all()


def test_a_cell_of_random_weights_is_another_cell() -> None:
    ours = cells(suite(MIXTRAL))
    assert cells(suite(MIXTRAL)) == ours
    model = ours[0].model
    assert (model.weights, model.label) == ("random", f"{MIXTRAL} (random weights)")
    stored = cells(Suite.parse(_stored(MIXTRAL), name="random", source="s.toml"), offline=True)
    assert model.sha256 != stored[0].model.sha256
    assert not {cell.id for cell in ours} & {cell.id for cell in stored}
    assert [step.calibration.sequences for step in ours[1].steps] == [0]


def _stored(model: str) -> str:
    text = SUITE.format(model=model, measure='["size"]', dtype="bfloat16")
    return text.replace('weights = "random"\n', "")


def test_a_dry_run_knows_the_cell(store: Store) -> None:
    cell = cells(suite(MIXTRAL))[0]
    assert state_of(cell, store, {}) == (cell.id, "to run")


def test_random_weights_have_no_accuracy() -> None:
    text = SUITE.format(model=MIXTRAL, measure='["size"]', dtype="bfloat16")
    text = text.replace("perplexity = []", 'perplexity = ["wikitext2"]')
    with pytest.raises(UserError, match=r"s\.toml:8: random weights have no accuracy; set perpl"):
        check(Suite.parse(text, name="random", source="s.toml"))


def test_what_is_too_large_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.run.stages.opening.device", lambda: "cpu")
    with pytest.raises(
        UserError, match=r"random\.toml:2: .* needs a GPU with 89 GiB, and there is"
    ):
        check_room(suite(MIXTRAL))
    check_room(suite("reference/mixtral"))
    monkeypatch.setattr("harness.run.stages.opening.device", lambda: "cuda")
    monkeypatch.setattr("harness.measure.nvml.total_memory", lambda: 24 * 2**30)
    with pytest.raises(UserError, match="needs a GPU with 89 GiB, and this one has 24"):
        check_room(suite(MIXTRAL))


def built(cell: Cell, folder: Path) -> MoEModel:
    job = Job(cell, None, folder / "work", folder / "cache")
    models = RandomModels(job, lambda phase: None)
    models.compress()
    return models.compressed_model()


def test_the_baseline_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.stages.opening.device", lambda: "cpu")
    monkeypatch.setattr("harness.run.stages.random_models.device", lambda: "cpu")
    plain, half, _, masked = cells(suite("reference/mixtral"))
    model = built(plain, tmp_path)
    assert base_beside(model, plain, room=None) == (model, False)
    model = built(masked, tmp_path)
    weight = model.blocks[0].weight("experts.0.down")
    groups = weight.reshape(len(weight), -1, 4)
    assert not groups[..., :2].any()
    assert float((groups[..., 2:] != 0).float().mean()) > 0.9  # a draw may round to 0
    model = built(half, tmp_path)
    base, shared = base_beside(model, half, room=None)
    assert not shared
    monkeypatch.setattr("harness.model.files.random_values.SMALL", 1024)
    before = logits(model).shape
    base, shared = base_beside(model, half, room=0)
    assert shared
    assert logits(model).shape == before == logits(base).shape
    stock = base.blocks[0].weight("experts.0.gate").untyped_storage().data_ptr()
    assert stock in {p.untyped_storage().data_ptr() for p in model.lm.parameters()}


ALONE = """
import json, sys
from pathlib import Path

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lm_eval", "datasets", "fvcore"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Gone())

from harness.plan.cells import cells
from harness.plan.check import check
from harness.run.job import Job
from harness.plan.suite import Suite
from harness.run.worker import execute

suite = Suite.load(sys.argv[1])
check(suite)
folder = Path(sys.argv[2])
for number, cell in enumerate(cells(suite)):
    job = Job(cell, None, folder / str(number), folder / "cache")
    print("RECORD", execute(job, lambda phase: None).record.model_dump_json())
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """All cells of a suite, run where lm-eval, datasets and fvcore are not installed."""
    folder = tmp_path_factory.mktemp("alone")
    path = folder / "alone.toml"
    measure = '["size", "flops", "memory", "speed"]'
    path.write_text(SUITE.format(model="reference/mixtral", measure=measure, dtype="bfloat16"))
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(path), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("RECORD ")]
    return [Record.model_validate(json.loads(line.removeprefix("RECORD "))) for line in lines]


def test_it_runs_without_what_accuracy_needs(records: list[Record]) -> None:
    assert [record.status for record in records] == ["ok"] * 4, records[0].reason
    for record in records:
        assert record.model.weights == "random"
        assert not record.tasks
        assert not record.perplexity
        assert record.flops is not None
        assert record.flops.routing.endswith(
            "fvcore, which counts operations one by one, is not installed."
        )
        assert record.speed is not None
        assert record.memory_running is not None


def test_the_record_claims_nothing_about_values(records: list[Record]) -> None:
    _, half, both, masked = records
    for record in (half, both, masked):
        assert record.size is not None
        assert record.size.nonzero_parameters is None
        assert record.audit is not None
        assert "bytes" not in record.audit
        assert "zero_share" not in record.audit
        assert record.compression_seconds is None
        assert not record.notes
        assert all(step.calibration is None for step in record.recipe)
    assert {len(edit["experts"]) for edit in half.edits} == {4}
    assert both.audit is not None
    assert both.audit["quantized"] == {"experts": 1.0, "attention": 1.0}


def test_packed_cells_are_smaller(records: list[Record]) -> None:
    sizes = [record.size for record in records if record.size]
    stored = [size.artifact_bytes or 0 for size in sizes]
    assert stored[0] > stored[1] > stored[2] > 0
    assert stored[0] == 2 * sizes[0].parameters  # bfloat16
    assert sizes[1].parameters == sizes[2].parameters
