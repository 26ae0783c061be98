from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from harness.measure.speed import roofline as roofs
from harness.measure.speed.bandwidth import copy_bandwidth
from harness.measure.speed.roofline import roofline
from harness.measure.speed.runtime import Generation
from harness.measure.speed.traffic import traffic
from harness.method.quantization.grid import rounded
from harness.model.edits import KeepExperts, MergeExperts, QuantizeWeights, SkipExperts
from harness.model.layers.experts import Experts
from harness.model.layers.packed import settle
from harness.model.quantized.scheme import Scheme
from harness.model.view import MoEModel

Build = Callable[..., PreTrainedModel]
HIDDEN, FFN, EXPERTS, TOP, BLOCKS, VOCABULARY = 32, 24, 6, 2, 3, 61
EXPERT = 4 * 3 * HIDDEN * FFN
"""Bytes of one expert in fp32."""


def view(lm: PreTrainedModel) -> MoEModel:
    return MoEModel(lm, ref="tiny", sha256="tiny")


def test_every_part_of_a_dense_step(tiny: Build) -> None:
    lm = tiny("mixtral")
    moved = traffic(lm, batch=1, context=10, cache_bytes=100)
    assert moved.experts == pytest.approx(TOP)
    assert moved.parts == {
        "attention": BLOCKS * 4 * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * HIDDEN // 2),
        "experts": BLOCKS * TOP * EXPERT,
        "router": BLOCKS * 4 * EXPERTS * HIDDEN,
        "shared": 0,
        "other": (2 * BLOCKS + 1) * 4 * HIDDEN,
        "head": 4 * VOCABULARY * HIDDEN,
        "embedding": 4 * HIDDEN,
        "cache": 100 * 11,
    }
    assert moved.total == sum(moved.parts.values())


@pytest.mark.parametrize("family", ["qwen2_moe", "deepseek_v2"])
def test_every_weight_is_read_when_every_expert_is(tiny: Build, family: str) -> None:
    lm = tiny(family)
    many = traffic(lm, batch=10_000, context=0, cache_bytes=0)
    weights = sum(p.nbytes for p in lm.parameters()) + sum(
        b.nbytes for layer in lm.model.layers for b in layer.buffers()
    )
    assert many.parts.pop("embedding") == 10_000 * 4 * HIDDEN
    assert sum(many.parts.values()) == weights - lm.get_input_embeddings().weight.nbytes
    assert many.parts["shared"] > 0


def test_a_batch_reads_the_distinct_experts(tiny: Build) -> None:
    moved = traffic(tiny("mixtral"), batch=3, context=0, cache_bytes=0)
    assert moved.experts == pytest.approx(EXPERTS * (1 - (1 - TOP / EXPERTS) ** 3))


def test_packed_matrices_count_their_packed_bytes(tiny: Build) -> None:
    model = view(
        tiny("mixtral", config={"hidden_size": 64, "intermediate_size": 64}, dtype=torch.bfloat16)
    )
    whole = traffic(model.lm, batch=1, context=0, cache_bytes=0)
    for block in model.blocks:
        names = block.matrices("experts", "attention")
        codes = {m.name: rounded(block.weight(m), Scheme(group=32)) for m in names}
        model.apply(QuantizeWeights.of(block.index, codes))
    for settled in (False, True):
        if settled:
            settle(model.lm)
        moved = traffic(model.lm, batch=1, context=0, cache_bytes=0)
        for part in ("experts", "attention"):
            # Four bits and, per 32 of them, a scale of 16 bits and a zero of 8 or 16.
            assert 4.75 / 16 <= moved.parts[part] / whole.parts[part] <= 5 / 16
        assert moved.parts["head"] == whole.parts["head"]


def test_only_what_is_computed_counts(tiny: Build) -> None:
    def experts(*edits: object) -> float:
        model = view(tiny("mixtral"))
        for edit in edits:
            model.apply(edit)  # type: ignore[arg-type]
        for module in model.lm.modules():
            if isinstance(module, Experts) and module.beta is not None:
                module.share = 0.75  # as an evaluation would find it
        return traffic(model.lm, batch=1, context=0, cache_bytes=0).parts["experts"] / EXPERT

    untouched = TOP * (BLOCKS - 1)
    kept = (0, 1, 2)
    assert experts(SkipExperts(block=1, beta=0.5)) == untouched + 0.75 * TOP
    assert experts(KeepExperts(block=1, experts=kept, router="rows")) == untouched + TOP
    assert experts(KeepExperts(block=1, experts=kept, router="mask")) == untouched + TOP
    # Two of six rows, of which every second leads nowhere; nothing was evaluated: all count.
    groups = ((0, 1, 2), (3, 4, 5))
    merged = experts(MergeExperts(block=1, groups=groups, weights=((1, 1, 1), (1, 1, 1))))
    assert merged - untouched == pytest.approx(2 * (1 - 3 / 15), abs=1e-3)


def test_the_share_of_the_roofline(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny("mixtral")
    generation = Generation(lm, torch.zeros(1, 20, dtype=torch.int64), 16)
    list(generation.logits())
    # Keys and values, two heads of eight in each of three blocks, fp32.
    assert generation.cache_bytes == 2 * 2 * 8 * 3 * 4
    monkeypatch.setattr(roofs, "copy_bandwidth", lambda device: 1000.0)
    ceiling = roofline(lm, generation, [4.0, 9.0, 2.0])
    assert ceiling.context == 18
    assert ceiling.parts["cache"] == 19 * generation.cache_bytes
    assert ceiling.reached == ceiling.bytes_per_step / 1000 / 4
    assert ceiling.note == "2.00 routed experts read per MoE layer and step."


def test_bandwidth_is_measured_once() -> None:
    first = copy_bandwidth("cpu")
    assert first > 0
    assert copy_bandwidth(torch.device("cpu")) == first
