"""Other libraries as methods: what goes over, what comes back, and what goes wrong on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from harness import reference
from harness.calibration.corpora.draw import tokens
from harness.calibration.walk import Calibration
from harness.code.reach import Reach
from harness.data import DataRoot
from harness.errors import Refused, UserError
from harness.method.quantization.grid import rounded
from harness.method.recipe import BoundStep, StepReport, compress
from harness.method.registry import code_of, method
from harness.model.edits import (
    DropBlock,
    DropMoE,
    KeepExperts,
    LowRank,
    QuantizeWeights,
    SetWeights,
)
from harness.model.files.artifact import load, save
from harness.model.files.opening import open_model
from harness.model.quantized.scheme import Scheme
from harness.model.view import MoEModel
from harness.peers import same_matrix as likeness
from harness.peers import worker_process
from harness.peers.peer import Peer
from harness.peers.weights import paths
from harness.peers.workers.bit_stream import natural, unpacked
from harness.peers.workers.peer_job import (
    PeerJob,
    Unable,
    check_loaded,
    digest,
    digests,
    same,
    write_blocks,
)
from methods.quantization.gptqmodel import GPTQModel
from methods.quantization.llm_compressor import LLMCompressor
from methods.quantization.rtn import RTN

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]
State = dict[str, Tensor]
Spoil = Callable[[PeerJob, State, dict[str, dict[str, Tensor]]], None]
SCHEME: dict[str, Any] = {"bits": 4, "group": 32}


def unfused(folder: Path) -> State:
    """The checkpoint as a peer has it in memory: one module per expert."""
    auto: Any = AutoModelForCausalLM
    state: State = dict(auto.from_pretrained(folder, dtype="auto").named_parameters())
    for name in [name for name in state if name.endswith("experts.gate_up_proj")]:
        path, fused = name.removesuffix(".gate_up_proj"), state.pop(name).detach()
        down = state.pop(f"{path}.down_proj").detach()
        for expert, (both, last) in enumerate(zip(fused, down, strict=True)):
            gate, up = both.chunk(2)
            for role, weight in (("gate", gate), ("up", up), ("down", last)):
                state[f"{path}.{expert}.{role}_proj.weight"] = weight
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def rounding(spoil: Spoil | None = None) -> Callable[[Peer, Path], float]:
    """A peer that rounds to nearest, or something worse."""

    def work(_: Peer, folder: Path) -> float:
        job = PeerJob(folder)
        state = unfused(folder / "model")
        check_loaded(job, state)
        before = digests(state)
        scheme = Scheme(bits=job.bits, group=job.group, symmetric=job.symmetric)  # type: ignore[arg-type]
        if job.algorithm == "awq":
            scale(job, state)
        made: dict[str, dict[str, Tensor]] = {}
        for name in job.modules:
            matrix = rounded(state[f"{name}.weight"], scheme)
            made[name] = {**matrix.tensors, "codes": matrix.unpacked()}
        if spoil is not None:
            spoil(job, state, made)
        write_blocks(job, state, before, made.__getitem__)
        (folder / "report.json").write_text('{"versions": {}}')
        return 1.5

    return work


def scale(job: PeerJob, state: State) -> None:
    """Twice the weights behind a norm of half the size, and the router as well."""
    for name in state:
        if name.endswith("post_attention_layernorm.weight"):
            state[name] /= 2
        reads = (".gate_proj.weight", ".up_proj.weight", "mlp.gate.weight", "expert_gate.weight")
        if name.endswith(reads):
            state[name] *= 2


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put `rounding` in the place of the real worker."""

    def put(spoil: Spoil | None = None) -> None:
        monkeypatch.setattr(Peer, "installed", lambda self: {self.package: self.version})
        monkeypatch.setattr("harness.peers.peer_method.work", rounding(spoil))

    return put


def run(model: MoEModel, calibration: Calibration, one: Any) -> StepReport:
    return compress(model, [BoundStep(one, calibration)])[0]


def logits(model: MoEModel) -> Tensor:
    with torch.no_grad():
        return model.lm(torch.arange(20).reshape(2, 10)).logits  # type: ignore[no-any-return]


def plain(model: MoEModel) -> None:
    """Nothing done before."""


def smaller(model: MoEModel) -> None:
    """A block and experts gone, as many in every block: numbers and places differ."""
    model.apply(DropBlock(block=1))
    for block in model.moe_blocks():
        model.apply(KeepExperts(block=block.index, experts=(1, 2, 4, 5)))


@pytest.mark.parametrize(("before", "symmetric"), [(plain, False), (smaller, True)])
def test_codes_arrive_where_they_belong(
    before: Callable[[MoEModel], None],
    symmetric: bool,
    family: str,
    fake: Callable[..., None],
    tiny: Tiny,
    calibration: Calibrate,
    tmp_path: Path,
) -> None:
    """A peer that rounds gives what rounding gives, to the bit; it reloads."""
    fake()
    ours, theirs = tiny(family), tiny(family)
    for model in (ours, theirs):
        before(model)
    targets = frozenset({"experts", "attention"})
    options = {**SCHEME, "symmetric": symmetric, "targets": targets}
    run(ours, calibration(), RTN(**options))
    report = run(theirs, calibration(padded=True), GPTQModel(**options))
    quantized = [edit for edit in theirs.edits if isinstance(edit, QuantizeWeights)]
    assert quantized == [edit for edit in ours.edits if isinstance(edit, QuantizeWeights)]
    assert torch.equal(logits(theirs), logits(ours))
    notes = {note.name: note.data for note in report.notes}
    assert notes["peer.report"]["seconds_in_all"] == 1.5
    assert all(not names for names in notes["peer.changed"].values())
    for errors in notes["peer.errors"].values():
        assert errors["peer"] == pytest.approx(errors["rtn"])
    save(theirs, tmp_path / "artifact")
    assert torch.equal(logits(load(tmp_path / "artifact")), logits(theirs))


def test_scaled_norms_come_back_as_weights(
    family: str, fake: Callable[..., None], tiny: Tiny, calibration: Calibrate
) -> None:
    fake()
    if family == "deepseek_v2":
        with pytest.raises(Refused, match="gptqmodel cannot quantize deepseek_v2 by awq; it does"):
            run(tiny(family), calibration(), GPTQModel(algorithm="awq"))
    model, base = tiny(family), tiny(family)
    report = run(model, calibration(), LLMCompressor(algorithm="awq", bits=8, group=0))
    changed = report.notes[-1].data
    assert {"mlp_norm", "router"} <= set(changed[model.moe_blocks()[0].index])
    for block in model.moe_blocks():
        old = base.blocks[block.index]
        assert torch.equal(block.weight("mlp_norm"), old.weight("mlp_norm") / 2)
        assert torch.equal(block.weight("router"), old.weight("router") * 2)
        whole = block.weight("experts.3.up")
        assert likeness.error(old.weight("experts.3.up") * 2, whole) < 0.01
    assert (logits(model) - logits(base)).norm() < 0.1 * logits(base).norm()


@pytest.mark.parametrize("kind", [GPTQModel, LLMCompressor])
@pytest.mark.parametrize("algorithm", ["gptq", "awq"])
def test_a_dry_run_needs_no_peer(
    kind: Any, algorithm: str, fake: Callable[..., None], tiny: Tiny, calibration: Calibrate
) -> None:
    dry, real = tiny("qwen2_moe", meta=True), tiny("qwen2_moe")
    run(dry, calibration(sequences=0), kind(algorithm=algorithm, **SCHEME))
    fake()
    run(real, calibration(), kind(algorithm=algorithm, **SCHEME))
    assert dry.edits == real.edits


def swap(job: PeerJob, state: State, made: dict[str, dict[str, Tensor]]) -> None:
    """Two experts change places, which a loss would hardly show."""
    path = "model.layers.1.mlp.experts"
    one, two = f"{path}.0.up_proj", f"{path}.1.up_proj"
    made[one], made[two] = made[two], made[one]


def forget(job: PeerJob, state: State, made: dict[str, dict[str, Tensor]]) -> None:
    made["model.layers.1.mlp.experts.2.down_proj"] = {}


def overflow(job: PeerJob, state: State, made: dict[str, dict[str, Tensor]]) -> None:
    made["model.layers.1.mlp.experts.2.down_proj"]["codes"] += 16


def shift(job: PeerJob, state: State, made: dict[str, dict[str, Tensor]]) -> None:
    state["model.layers.2.self_attn.v_proj.bias"] += 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (swap, r"block 1: what gptqmodel gives for experts.0.up is not that matrix"),
        (forget, "block 1: experts.2.down: the peer has not quantized it"),
        (overflow, "block 1: experts.2.down: the peer's codes and scales do not fit the matrix"),
        (shift, "block 2: the peer has changed self_attn.v_proj.bias, which no edit can set"),
    ],
)
def test_what_is_not_the_matrix_never_gets_in(
    spoil: Spoil, said: str, fake: Callable[..., None], tiny: Tiny, calibration: Calibrate
) -> None:
    fake(spoil)
    with pytest.raises(UserError, match=said):
        run(tiny("qwen2_moe"), calibration(), GPTQModel(**SCHEME))


def test_random_experts_are_found_before_anything_is_quantized(
    fake: Callable[..., None],
    tiny: Tiny,
    calibration: Calibrate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trap: a loader that does not know the checkpoint's names, and only warns."""
    fake()
    loaded = unfused

    def warned_only(folder: Path) -> State:
        state = loaded(folder)
        for name, tensor in state.items():
            if ".experts." in name:
                tensor.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
        return state

    monkeypatch.setitem(globals(), "unfused", warned_only)
    with pytest.raises(Unable, match=r"loaded 72 of \d+ weights with other values"):
        run(tiny("mixtral"), calibration(), GPTQModel(**SCHEME))


def test_a_likeness_is_more_than_a_guess() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, other = torch.randn(2, 48, 32, generator=generator)
    near = weight + 0.1 * other
    rows, columns = torch.rand(2, 48, generator=generator) + 0.5
    assert likeness.error(weight, near) == pytest.approx(0.1, abs=0.01)
    scaled = near * rows[:, None] * columns[:32]
    assert likeness.error(weight, scaled, scaled=True) == pytest.approx(0.1, abs=0.01)
    assert likeness.error(weight, scaled) > 0.2
    assert likeness.error(weight, other) > likeness.MOST
    assert likeness.error(weight, other, scaled=True) < 1
    assert likeness.error(weight, near * float("nan")) == float("inf")


def uneven(model: MoEModel) -> None:
    model.apply(KeepExperts(block=2, experts=(0, 1, 2, 3)))


def dropped(model: MoEModel) -> None:
    model.apply(DropMoE(block=3))


def factored(model: MoEModel) -> None:
    weight = model.blocks[2].weight("experts.0.up")
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    model.apply(LowRank.of(2, {"experts.0.up": (u[:, :4] * s[:4], v[:4])}))


@pytest.mark.parametrize(
    ("before", "said"),
    [(uneven, "keep_experts"), (dropped, "drop_moe in block 3"), (factored, "low_rank in block 2")],
)
@pytest.mark.parametrize("meta", [False, True])
def test_what_no_plain_checkpoint_can_hold_is_refused(
    before: Callable[[MoEModel], None],
    said: str,
    meta: bool,
    tiny: Tiny,
    calibration: Calibrate,
) -> None:
    model = tiny("qwen2_moe")
    before(model)
    with pytest.raises(Refused, match=f"^gptqmodel works on plain checkpoints only: .*{said}"):
        run(model, calibration(sequences=0 if meta else 6), GPTQModel(**SCHEME))


def test_paths_are_those_of_transformers(family: str, tiny: Tiny) -> None:
    model = tiny(family)
    for block in model.blocks:
        places = paths(block)
        assert len(set(places.values())) == len(places)
        for name, path in places.items():
            if not name.startswith("experts."):
                held: Any = block.layer.get_submodule(path)
                assert held.weight.data_ptr() == block.weight(name).data_ptr()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_words_are_unpacked(bits: int) -> None:
    codes = torch.randint(0, 2**bits, (3, 24), generator=torch.Generator().manual_seed(bits))
    stream = [sum(int(c) << (bits * place) for place, c in enumerate(row)) for row in codes]
    count = -(-24 * bits // 32)
    words = [[one >> (32 * place) & (2**32 - 1) for place in range(count)] for one in stream]
    packed = torch.tensor(words).to(torch.int32)  # [3, words]; the highest bit is the sign
    assert torch.equal(unpacked(packed, bits, 24), codes.int())


def test_the_order_of_awq() -> None:
    """A word of eight columns holds them, lowest bits first, as 0 2 4 6 1 3 5 7."""
    columns = torch.arange(16)[None]  # [1, 16]
    held = columns.reshape(1, 2, 8)[..., [0, 2, 4, 6, 1, 3, 5, 7]].flatten(-2)
    assert torch.equal(natural(held), columns)


def test_codes_that_mean_something_else_are_refused() -> None:
    weight = torch.tensor([[0.5, -1.0]])
    same(weight, weight.clone(), "up")
    with pytest.raises(Unable, match="the codes of up are not those of its own weights"):
        same(weight + 0.01, weight, "up")
    with pytest.raises(Unable, match="the codes of up"):
        same(weight * float("nan"), weight, "up", tolerance=0.1)


@pytest.mark.parametrize("name", ["autoawq", "auto-awq", "auto-gptq", "auto_gptq", "AutoGPTQ"])
def test_the_dead_are_refused_by_name(name: str) -> None:
    algorithm = "awq" if name.endswith("awq") else "gptq"
    with pytest.raises(
        UserError, match=f"'{name}': Auto.* is archived .*use '{algorithm}'"
    ) as said:
        method(name, where="mine.toml:7")
    assert str(said.value).startswith("mine.toml:7: ")


@pytest.mark.parametrize("kind", [GPTQModel, LLMCompressor])
def test_the_worker_is_part_of_the_method(kind: type[GPTQModel | LLMCompressor]) -> None:
    reached = Reach().code(*code_of(kind))
    worker = kind.peer.worker.stem
    names = {f"harness.peers.workers.{name}" for name in (worker, "bit_stream", "peer_job")}
    assert names <= set(reached)


def test_a_peer_that_works_in_16_bits_may_lose_nothing(tmp_path: Path) -> None:
    exact = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    for weight, lossless in ((exact.float(), True), (exact.float() * 1.001, False)):
        told = dict.fromkeys(("algorithm", "bits", "group", "symmetric", "options", "batch_size"))
        told |= {"modules": [], "left": [], "weights": {"up": digest(weight)}, "dtype": "float32"}
        (tmp_path / "job.json").write_text(json.dumps(told))
        if lossless:
            check_loaded(PeerJob(tmp_path), {"up": weight.bfloat16()})
            continue
        with pytest.raises(Unable, match=r"loaded 1 of 1 weights .* holds in float32, the first"):
            check_loaded(PeerJob(tmp_path), {"up": weight.bfloat16()})


def test_orders_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="act_order and act_group_aware exclude each other"):
        GPTQModel(act_order=True, act_group_aware=True)
    assert not GPTQModel(group=0).own_options()["config"]["act_group_aware"]
    config = GPTQModel(act_order=True, damping=0.02).own_options()["config"]
    assert config == {
        "desc_act": True,
        "static_groups": True,
        "act_group_aware": False,
        "damp_percent": 0.02,
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GPTQModel, LLMCompressor])
def test_the_real_one(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its interpreter is: every expert matrix quantized, near the base, and better than not.

    GPTQ's weights are farther from the base's than rounding's, and not by much.
    """
    peer: Peer = kind.peer
    try:
        peer.installed()
    except UserError:
        pytest.skip(f"{peer.name} has no interpreter here; 'moebench doctor' says how to make one")
    monkeypatch.setenv(worker_process.TIMEOUT, "1200")
    model, base = open_model("reference/mixtral"), open_model("reference/mixtral")
    ids = tokens(
        "reference",
        model.tokenizer,
        sequences=4,
        length=64,
        seed=0,
        data=DataRoot(reference.DATA),
    )
    report = run(model, Calibration(ids, batch_size=4), kind(**SCHEME))
    edits = [edit for edit in model.edits if isinstance(edit, QuantizeWeights)]
    assert sum(len(edit.matrices) for edit in edits) == 4 * 8 * 3
    assert not any(isinstance(edit, SetWeights) for edit in model.edits)
    notes = {note.name: note.data for note in report.notes}
    assert notes["peer.report"]["versions"][peer.package] == peer.version
    for errors in notes["peer.errors"].values():
        assert errors["rtn"] < errors["peer"] < 3 * errors["rtn"]
    with torch.no_grad():
        whole, small = base.lm(ids.input_ids).logits, model.lm(ids.input_ids).logits
    assert (whole - small).norm() < 0.2 * whole.norm()
