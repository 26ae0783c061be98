"""The kernels: on a CUDA device, or else under Triton's interpreter, where Triton is."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from harness.model.edits import KeepExperts, LowRank, MergeExperts, QuantizeWeights, SkipExperts
from harness.model.layers.experts import Experts
from harness.model.layers.packed import PackedLinear
from harness.model.quantized import kernels
from harness.model.quantized.kernels.tiles import FEW_ROWS, Tiles
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.view import Block, MoEModel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
Tiny = Callable[..., MoEModel]
EXPERTS = 5
ROUNDING = {torch.float32: 1e-6, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""Relative to the largest output; half a unit in the last place, of fp32 a few."""
ROUTINGS = {
    "few": [3, 0, 3, 4, 0, 3, 3],
    "one expert": [2] * 20,
    "nowhere": [-1, EXPERTS, 2, 99, -7, 2, EXPERTS],
    "all nowhere": [EXPERTS] * 4,
    "one row": [1],
    "many": [(7 * row) % 11 - 2 for row in range(FEW_ROWS + 20)],
    "many on one": [4] * (FEW_ROWS + 5),
}


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def quantized(
    scheme: Scheme, outputs: int, inputs: int, dtype: torch.dtype, draw: torch.Generator
) -> Quantized:
    """Any codes, zeros and scales."""
    shape = (EXPERTS, outputs, scheme.groups(inputs))
    codes = torch.randint(scheme.levels, (*shape[:2], inputs), generator=draw, dtype=torch.uint8)
    zeros = torch.randint(scheme.levels, shape, generator=draw, dtype=torch.uint8)
    scales = (torch.rand(shape, generator=draw) + 0.1).to(dtype)
    return Quantized.of(codes, scales, None if scheme.symmetric else zeros, scheme)


def reference(x: Tensor, slots: list[int], weight: Tensor | Quantized) -> Tensor:
    """Row by row in fp64, of weights dequantised in fp32."""
    dense = weight.dequantise(torch.float32) if isinstance(weight, Quantized) else weight
    out = torch.zeros(len(slots), dense.shape[1], dtype=torch.float64)
    for row, slot in enumerate(slots):
        if 0 <= slot < len(dense):
            out[row] = dense[slot].double() @ x[row].double()
    return out


def check(x: Tensor, slots: list[int], weight: Tensor | Quantized) -> None:
    from harness.model.quantized.kernels.launch import grouped_rows

    on_device = weight.to(DEVICE) if isinstance(weight, Tensor) else moved(weight)
    out = grouped_rows(x.to(DEVICE), torch.tensor(slots, device=DEVICE), on_device)
    expected = reference(x, slots, weight)
    assert out.dtype == x.dtype
    bound = ROUNDING[x.dtype] * float(expected.abs().max())
    torch.testing.assert_close(out.cpu().double(), expected, atol=bound, rtol=0)


def moved(weight: Quantized) -> Quantized:
    return weight.holding({name: tensor.to(DEVICE) for name, tensor in weight.tensors.items()})


@pytest.mark.parametrize("name", ROUTINGS)
def test_tiles_hold_every_row_once(name: str) -> None:
    slots = ROUTINGS[name] * (FEW_ROWS + 1)
    tiles = Tiles.of(torch.tensor(slots), EXPERTS)
    assert tiles.table is not None
    assert tiles.order is not None
    seen = []
    for expert, first, end in tiles.table.T.tolist():
        if expert < EXPERTS:
            rows = tiles.order[first : min(first + tiles.height, end)].tolist()
            assert rows
            assert {slots[row] for row in rows} == {expert}
            seen += rows
    assert sorted(seen) == [row for row, slot in enumerate(slots) if 0 <= slot < EXPERTS]


def test_tiles_are_made_without_reading_the_slots() -> None:
    """On the meta device there is nothing to read."""
    tiles = Tiles.of(torch.empty(1000, dtype=torch.int64, device="meta"), 8)
    assert tiles.table is not None
    assert tiles.table.shape == (3, tiles.count)


@needs_triton
@pytest.mark.parametrize("name", ROUTINGS)
def test_any_routing(name: str, draw: torch.Generator) -> None:
    slots = ROUTINGS[name]
    x = torch.randn(len(slots), 64, generator=draw)
    x[[not 0 <= slot < EXPERTS for slot in slots]] = torch.nan  # what leads nowhere is not read
    check(x, slots, quantized(Scheme(bits=4, group=64), 20, 64, torch.float32, draw))
    check(x, slots, torch.randn(EXPERTS, 20, 64, generator=draw))


@needs_triton
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize(
    ("bits", "group", "symmetric", "inputs"),
    [
        (4, 32, False, 70),  # several groups to a step, the last of them not there
        (4, 64, True, 160),
        (4, 128, False, 300),
        (4, 0, False, 97),  # rows of an odd number of bytes
        (8, 64, False, 128),
        (8, 0, True, 70),
    ],
)
def test_any_scheme(
    bits: int,
    group: int,
    symmetric: bool,
    inputs: int,
    dtype: torch.dtype,
    draw: torch.Generator,
) -> None:
    """No weight is rounded: in half precision only the outputs are."""
    scheme = Scheme(bits=bits, group=group, symmetric=symmetric)  # type: ignore[arg-type]
    weight = quantized(scheme, 70, inputs, dtype, draw)
    check(torch.randn(7, inputs, generator=draw).to(dtype), ROUTINGS["few"], weight)


@needs_triton
@pytest.mark.parametrize(("bits", "group"), [(4, 5), (4, 24), (8, 20)])
def test_groups_that_steps_cross(bits: int, group: int, draw: torch.Generator) -> None:
    scheme = Scheme(bits=bits, group=group)  # type: ignore[arg-type]
    weight = quantized(scheme, 20, 73, torch.float32, draw)
    check(torch.randn(7, 73, generator=draw), ROUTINGS["few"], weight)


@needs_triton
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_dense_weights(dtype: torch.dtype, draw: torch.Generator) -> None:
    weight = torch.randn(EXPERTS, 70, 100, generator=draw).to(dtype)
    check(torch.randn(7, 100, generator=draw).to(dtype), ROUTINGS["few"], weight)


@needs_triton
def test_long_rows_are_shared_out_and_rows_may_be_the_same(draw: torch.Generator) -> None:
    from harness.model.quantized.kernels.launch import plan_for

    x = torch.randn(1, 1100, generator=draw).expand(7, -1)
    weight = quantized(Scheme(bits=4, group=128), 20, 1100, torch.float32, draw)
    tiles = Tiles.of(torch.tensor(ROUTINGS["few"]), EXPERTS)
    assert plan_for(tiles, 20, 1100, weight, x).shares > 1
    check(x, ROUTINGS["few"], weight)


@needs_triton
def test_what_does_not_fit_is_an_error(draw: torch.Generator) -> None:
    from harness.model.quantized.kernels.launch import grouped_rows

    x, slots = torch.randn(7, 32, generator=draw), torch.tensor(ROUTINGS["few"])
    with pytest.raises(ValueError, match="do not fit"):
        grouped_rows(x, slots, torch.zeros(EXPERTS, 8, 30))
    with pytest.raises(ValueError, match="bfloat16"):
        grouped_rows(x, slots, torch.zeros(EXPERTS, 8, 32, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="3 bits"):
        grouped_rows(x, slots, quantized(Scheme(bits=3), 8, 32, torch.float32, draw))


def quantize(model: MoEModel, block: int, scheme: Scheme, *parts: str) -> None:
    """Nearest codes between the extremes of a row."""
    collected = {}
    for matrix in Block(model, block).matrices(*parts):  # type: ignore[arg-type]
        weight = Block(model, block).weight(matrix)
        low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
        scale = (high - low) / (scheme.levels - 1)
        zero = (-low / scale).round().clamp(0, scheme.levels - 1)
        codes = ((weight / scale).round() + zero).clamp(0, scheme.levels - 1).to(torch.uint8)
        collected[matrix.name] = Quantized.of(codes, scale, zero.to(torch.uint8), scheme)
    model.apply(QuantizeWeights.of(block, collected))


def edited(model: MoEModel, block: int) -> None:
    """Several banks, merged experts, a router row that leads nowhere, skipped choices."""
    keep = (0, 1, 2, 3, 5)
    model.apply(KeepExperts(block=block, experts=keep, router="preserve"))
    groups = ((0, 3), (1,), (2,), (5,))
    weights = ((0.5, 0.5), (1.0,), (1.0,), (1.0,))
    model.apply(MergeExperts(block=block, groups=groups, weights=weights))
    low = {}
    for name in ("experts.2.gate", "experts.2.down"):
        u, s, v = torch.linalg.svd(Block(model, block).weight(name), full_matrices=False)
        low[name] = ((u * s)[:, :5], v[:5])
    model.apply(LowRank.of(block, low))
    model.apply(SkipExperts(block=block, beta=0.6))


@needs_triton
@pytest.mark.parametrize("packed", [False, True])
def test_a_layer_of_many_kinds_of_experts(
    packed: bool, tiny: Tiny, draw: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("qwen2_moe")
    edited(model, 2)
    if packed:
        quantize(model, 2, Scheme(bits=4, group=0), "experts", "shared")
    layer = model.layer(2).mlp
    assert len(layer.experts.banks) > 1
    x = torch.randn(2, 20, 16, generator=draw)
    with torch.no_grad():
        expected = layer(x)
        monkeypatch.setattr(kernels, "runs_on", lambda x: True)
        monkeypatch.setattr(torch, "bincount", None)  # the other path would need it
        torch.testing.assert_close(layer.to(DEVICE)(x.to(DEVICE)).cpu(), expected)


@needs_triton
def test_experts_read_nothing_back(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tensors that hold nothing, and products that are only shapes."""
    model = tiny("mixtral")
    edited(model, 2)
    quantize(model, 2, Scheme(bits=4, group=0), "experts")
    experts = model.layer(2).mlp.experts.to("meta")
    assert isinstance(experts, Experts)

    def product(x: Tensor, tiles: Tiles, weight: Tensor | Quantized) -> Tensor:
        outputs = weight.shape[-2]
        return x.new_empty(tiles.rows, outputs)

    monkeypatch.setattr("harness.model.quantized.kernels.launch.grouped_rows", product)
    hidden, weights = torch.empty(300, 16, device="meta"), torch.empty(300, 2, device="meta")
    index = torch.empty(300, 2, dtype=torch.int64, device="meta")
    computed, weights = experts.choose(index, weights)
    slots = experts.slots[index].masked_fill(~computed, experts.num_experts)
    assert experts._tiled(hidden, slots, weights).shape == hidden.shape


@needs_triton
def test_a_packed_linear_layer(draw: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = quantized(Scheme(bits=4, group=32), 24, 80, torch.float32, draw)[0]
    linear = PackedLinear(weight, torch.randn(24, generator=draw)).to(DEVICE)
    x = torch.randn(2, 9, 80, generator=draw).to(DEVICE)
    with torch.no_grad():
        expected = linear(x)
        monkeypatch.setattr(kernels, "runs_on", lambda x: True)
        torch.testing.assert_close(linear(x), expected, atol=1e-4, rtol=1e-5)


def test_the_processor_and_gradients_go_other_ways() -> None:
    with torch.no_grad():
        assert not kernels.runs_on(torch.zeros(1))
    assert not kernels.runs_on(torch.zeros(1, device=DEVICE))
