"""The grouped kernel on a device, at the sizes of models."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.model.layers.experts import Experts
from harness.model.layers.packed import PackedLinear
from harness.model.quantized.kernels.tiles import Tiles
from harness.model.quantized.scheme import Quantized, Scheme

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
HIDDEN, FFN, EXPERTS = 512, 384, 6
FLOAT32 = 1e-5
HALF = 2.5e-3
"""Rounding bf16 outputs alone moves them by 1.7e-3 of their norm."""


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def quantized(scheme: Scheme, shape: tuple[int, ...], dtype: torch.dtype) -> Quantized:
    """Any codes, zeros and scales, on the device; the weights' size does not depend on `shape`."""
    *outer, inputs = shape
    groups = (*outer, scheme.groups(inputs))
    codes = torch.randint(scheme.levels, shape, dtype=torch.uint8, device="cuda")
    zeros = torch.randint(scheme.levels, groups, dtype=torch.uint8, device="cuda")
    scales = ((torch.rand(groups, device="cuda") + 0.1) / inputs**0.5 / scheme.levels).to(dtype)
    return Quantized.of(codes, scales, None if scheme.symmetric else zeros, scheme)


def reference(x: Tensor, slots: Tensor, weight: Quantized) -> Tensor:
    """In fp64, of weights dequantised in fp32."""
    out = x.new_zeros(len(x), weight.shape[0], dtype=torch.float64)
    for expert in range(len(weight.codes)):
        mine = slots == expert
        out[mine] = x[mine].double() @ weight[expert].dequantise(torch.float32).double().T
    return out


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("rows", [1, 8, 64, 200, 5000])
@pytest.mark.parametrize(
    "scheme",
    [
        Scheme(group=128),
        Scheme(group=64, symmetric=True),
        Scheme(group=32),
        Scheme(group=0),
        Scheme(group=24),
        Scheme(bits=8, group=128),
        Scheme(bits=8, group=32, symmetric=True),
    ],
    ids=lambda scheme: f"{scheme.bits}-{scheme.group}-{scheme.symmetric}",
)
def test_products(scheme: Scheme, rows: int, dtype: torch.dtype) -> None:
    """Experts without rows, rows that lead nowhere, outputs and inputs that fill no tile."""
    from harness.model.quantized.kernels.launch import grouped_rows

    weight = quantized(scheme, (12, 1000, 1416), dtype)
    slots = torch.randint(-1, 15, (rows,), device="cuda")
    slots[slots == 5] = 4
    slots[0] = 3
    x = torch.randn(rows, 1416, device="cuda").to(dtype)
    x[(slots < 0) | (slots >= 12)] = torch.nan
    out = grouped_rows(x, slots, weight).double()
    expected = reference(x, slots, weight)
    assert torch.isfinite(out).all()
    error = (out - expected).norm() / expected.norm()
    assert error < (FLOAT32 if dtype == torch.float32 else HALF)


def test_the_same_bits_every_time() -> None:
    """Long rows are shared out among programs; their sums are added in one order."""
    from harness.model.quantized.kernels.launch import grouped_rows

    weight = quantized(Scheme(), (8, 4096, 14336), torch.bfloat16)
    x, slots = torch.randn(2, 14336, device="cuda").bfloat16(), torch.tensor([6, 1], device="cuda")
    first = grouped_rows(x, slots, weight)
    assert all(torch.equal(grouped_rows(x, slots, weight), first) for _ in range(20))


def test_a_packed_linear_layer() -> None:
    weight = quantized(Scheme(), (640, HIDDEN), torch.bfloat16)
    bias = torch.randn(640, device="cuda").bfloat16()
    linear = PackedLinear(weight, bias)
    for rows in (1, 33, 3000):
        x = torch.randn(rows, HIDDEN, device="cuda").bfloat16()
        expected = x.double() @ weight.dequantise(torch.float32).double().T + bias.double()
        assert (linear(x).double() - expected).norm() / expected.norm() < 2 * HALF


def experts(packed: bool) -> Experts:
    """Two banks; rows that share an expert, one that leads nowhere, skipped choices."""
    parts = {}
    for number in range(EXPERTS):
        ffn = FFN if number % 2 else FFN // 2
        shapes = {"gate": (ffn, HIDDEN), "up": (ffn, HIDDEN), "down": (HIDDEN, ffn)}
        parts[number] = {
            name: quantized(Scheme(group=64), shape, torch.bfloat16)
            if packed
            else torch.randn(shape, device="cuda").bfloat16() / shape[1] ** 0.5
            for name, shape in shapes.items()
        }
    return Experts.of(parts, [0, 1, 2, 3, 4, 5, 0, -1], nn.SiLU(), beta=0.3).cuda()


def routing(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    logits = torch.randn(tokens, 8, device="cuda")
    weights, index = logits.softmax(-1).topk(3)
    return torch.randn(tokens, HIDDEN, device="cuda").bfloat16(), index, weights


def on_the_processor(layer: Experts, *inputs: Tensor) -> Tensor:
    return layer.float().cpu()(*(each.cpu().to(_wide(each)) for each in inputs))  # type: ignore[no-any-return]


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.is_floating_point() else tensor.dtype


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("tokens", [1, 5, 64])
def test_experts_decode_in_a_graph(packed: bool, tokens: int) -> None:
    """Captured with one routing, replayed with others; and nothing is read back on the way."""
    layer = experts(packed)
    held = routing(tokens)
    layer(*held)  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer(*held)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = layer(*held)
    outs, inputs = [], [routing(tokens) for _ in range(4)]
    for new in inputs:
        for place, value in zip(held, new, strict=True):
            place.copy_(value)
        graph.replay()
        outs.append(out.cpu().float())
    for computed, new in zip(outs, inputs, strict=True):
        expected = on_the_processor(layer, *new)
        assert (computed - expected).norm() / expected.norm() < 4 * HALF


def test_packed_experts_take_many_tokens() -> None:
    layer, inputs = experts(packed=True), routing(1500)
    outputs = layer(*inputs).cpu().float()
    expected = on_the_processor(layer, *inputs)
    assert (outputs - expected).norm() / expected.norm() < 4 * HALF


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("rows", [1, 2, 8, 32])
@pytest.mark.parametrize(
    "shape", [(8, 28672, 4096), (8, 4096, 14336), (128, 1536, 2048), (128, 2048, 768)], ids=str
)
def test_bandwidth(
    bits: int, rows: int, shape: tuple[int, int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes of the experts used over time, printed; nothing is asserted of them."""
    from harness.model.quantized.kernels.launch import grouped_rows

    weight: Tensor | Quantized = (
        torch.randn(shape, device="cuda", dtype=torch.bfloat16)
        if bits == 16
        else quantized(Scheme(bits=bits), shape, torch.bfloat16)  # type: ignore[arg-type]
    )
    size = weight.nbytes / shape[0]
    x = torch.randn(rows, shape[2], device="cuda").bfloat16()
    routings = [torch.randint(shape[0], (rows,), device="cuda") for _ in range(24)]
    used = sum(len(set(slots.tolist())) for slots in routings)

    def calls() -> None:
        for slots in routings:
            grouped_rows(x, Tiles.of(slots, shape[0]), weight)

    seconds = timed(calls)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{bits} bits, {shape}, {rows} rows: {seconds / len(routings) * 1e6:.1f} us, "
            f"{used * size / seconds / 1e12:.2f} TB/s"
        )
    assert seconds > 0


@pytest.mark.parametrize("bits", [4, 16])
@pytest.mark.parametrize("shape", [(8, 28672, 4096), (128, 1536, 2048)], ids=str)
def test_prefill_rate(
    bits: int, shape: tuple[int, int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """2048 tokens, printed; nothing is asserted of it."""
    from harness.model.quantized.kernels.launch import grouped_rows

    weight: Tensor | Quantized = (
        torch.randn(shape, device="cuda", dtype=torch.bfloat16)
        if bits == 16
        else quantized(Scheme(), shape, torch.bfloat16)
    )
    rows = 2048 * (2 if shape[0] == 8 else 8)
    x = torch.randn(rows, shape[2], device="cuda").bfloat16()
    slots = torch.randint(shape[0], (rows,), device="cuda")
    seconds = timed(lambda: [grouped_rows(x, slots, weight)])
    with capsys.disabled():
        rate = 2 * rows * shape[1] * shape[2] / seconds / 1e12
        sys.stdout.write(f"\n{bits} bits, {shape}: {seconds * 1e3:.2f} ms, {rate:.0f} TFLOP/s")
    assert seconds > 0


_event: Any = torch.cuda.Event


def timed(calls: Callable[[], object]) -> float:
    """Median seconds of a graph's replay."""
    calls()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        calls()
    times = []
    for _ in range(12):
        start, end = (_event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(float(start.elapsed_time(end)) / 1e3)
    return statistics.median(times[2:])
