from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from harness.measure.environment import environment
from harness.measure.flops import measure_flops
from harness.measure.memory import PeakMemory
from harness.measure.size import measure_size
from harness.measure.speed.compared import measure_speed, measure_speeds
from harness.measure.speed.graph import Captured, NotCaptured
from harness.measure.speed.runtime import Generation
from harness.measure.speed.semi_structured import semi_structured
from tests.models import from_config, tiny_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

MIB = 1 << 20


@pytest.fixture
def lm() -> PreTrainedModel:
    config = tiny_config(
        "mixtral",
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        num_local_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=512,
    )
    torch.manual_seed(0)
    built: Any = from_config(config, dtype=torch.bfloat16)
    on_device: PreTrainedModel = built.to("cuda")
    return on_device


def test_a_transient_on_the_device_is_seen() -> None:
    before = torch.cuda.memory_allocated()
    block = torch.empty(100 * MIB, dtype=torch.uint8, device="cuda")
    del block
    torch.cuda.empty_cache()
    with PeakMemory("cuda") as peak:
        block = torch.empty(300 * MIB, dtype=torch.uint8, device="cuda")
        del block
    assert peak.memory.torch_peak is not None
    assert peak.memory.torch_peak - before == 300 * MIB
    # NVML sees the context and the allocator's cache as well; it may not answer in a container.
    assert peak.memory.nvml_peak is None or peak.memory.nvml_peak > 300 * MIB


def test_flops_and_size_are_those_of_the_cpu(lm: PreTrainedModel) -> None:
    flops = measure_flops(lm, 128)
    size = measure_size(lm, None)
    assert flops.macs == flops.analytic_macs
    moved: PreTrainedModel = lm.to("cpu")  # type: ignore[arg-type]
    assert measure_flops(moved, 128) == flops
    assert measure_size(moved, None) == size


def test_speed(lm: PreTrainedModel) -> None:
    speed = measure_speed(lm, lm, length=256, new_tokens=16, repetitions=5)
    assert speed.device.startswith("cuda")
    assert speed.dtype == "bfloat16"
    assert 0.5 < speed.decode.low <= speed.decode.speedup <= speed.decode.high < 2
    # A prefill of 256 tokens costs more than one token, and both cost real time.
    assert min(speed.decode.seconds) > 1e-5


def test_speeds_come_as_a_graph_and_eager(lm: PreTrainedModel) -> None:
    graph, eager = measure_speeds(lm, lm, length=256, new_tokens=16, repetitions=5, stock=True)
    assert (graph.runtime, eager.runtime) == ("graph", "eager"), eager.note
    assert [way.path for way in graph.stock] == ["expert loop", "generate()"]
    assert graph.stock[1].experts_implementation == "grouped_mm, then batched_mm"
    assert eager.stock == []
    assert graph.roofline is not None
    assert graph.roofline.bandwidth > 1e10
    # NVML may not answer in a container.
    assert graph.decode.joules is None or min(graph.decode.joules) >= 0


@pytest.mark.parametrize("batch", [1, 3])
def test_a_replayed_step_gives_the_logits_of_an_eager_one(lm: PreTrainedModel, batch: int) -> None:
    ids = torch.randint(512, (batch, 40), generator=torch.Generator().manual_seed(0))
    expected = torch.stack(list(Generation(lm, ids, 24).logits()))
    captured = Captured(lm, ids, 24)
    for _ in range(2):
        outputs = torch.stack([logits.clone() for logits in captured.logits()])
        torch.testing.assert_close(outputs, expected, rtol=0.02, atol=0.02)


def test_what_reads_back_is_not_captured(lm: PreTrainedModel) -> None:
    lm.model.layers[0].mlp.gate.register_forward_hook(lambda *call: call[-1][2].tolist())
    ids = torch.zeros(1, 12, dtype=torch.int64)
    with pytest.raises(NotCaptured):
        Captured(lm, ids, 8)
    speeds = measure_speeds(lm, lm, length=8, new_tokens=4, repetitions=3)
    assert [speed.runtime for speed in speeds] == ["eager"]
    assert (speeds[0].note or "").startswith("not captured in a CUDA graph: the compressed model:")


def test_masks_in_two_four_run_semi_structured(lm: PreTrainedModel) -> None:
    layer = lm.model.layers[1]
    for weight in (layer.self_attn.q_proj.weight, *layer.mlp.experts.parameters()):
        weight.data.view(-1, 4)[:, [0, 3]] = 0
    ids = torch.randint(512, (2, 48), generator=torch.Generator().manual_seed(0)).to("cuda")
    with torch.no_grad():
        expected = lm(ids).logits
        with semi_structured(lm) as note:
            outputs = lm(ids).logits
    assert note is not None
    assert note.startswith("2 of 2 modules masked in 2:4 ran semi-structured"), note
    torch.testing.assert_close(outputs, expected, rtol=0.02, atol=0.02)


def test_the_environment_names_the_device() -> None:
    described = environment("cuda")
    assert described.device == torch.cuda.get_device_name()
