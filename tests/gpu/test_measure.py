from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig, PreTrainedModel

from harness.measure.environment import environment
from harness.measure.flops import measure_flops
from harness.measure.memory import PeakMemory
from harness.measure.size import measure_size
from harness.measure.speed import measure_speed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

MIB = 1 << 20


@pytest.fixture
def lm() -> PreTrainedModel:
    config = MixtralConfig(
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
    built = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.bfloat16
    )
    on_device: PreTrainedModel = built.to("cuda").eval()
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


def test_the_environment_names_the_device() -> None:
    found = environment("cuda")
    assert found.device == torch.cuda.get_device_name()
