"""Quantized matrices: packed, put in a model, saved, loaded and run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.errors import Refused
from harness.measure.size import measure_size, resident_bytes
from harness.model.editing.matrices import Part
from harness.model.edits import (
    DropBlock,
    KeepExperts,
    LowRank,
    MergeExperts,
    QuantizeWeights,
    SetWeights,
    SkipExperts,
)
from harness.model.files.artifact import load, save
from harness.model.files.audit import audit
from harness.model.files.tensors import state
from harness.model.layers.packed import FEW_ROWS, Packed, settle
from harness.model.quantized import int4
from harness.model.quantized.scheme import Quantized, Scheme, concatenate, stack
from harness.model.view import Block, MoEModel
from tests.models import from_config, tiny_config

Tiny = Callable[..., MoEModel]
SCHEMES = [
    Scheme(bits=bits, group=group, symmetric=symmetric)
    for bits in (2, 3, 4, 8)
    for group, symmetric in ((0, False), (5, True), (8, False))
]


def rounded(weight: Tensor, scheme: Scheme) -> Quantized:
    """Nearest codes on a grid over each group, by the definition."""
    _, inputs = weight.shape
    width = scheme.group or inputs
    scales, zeros, codes = [], [], []
    for start in range(0, inputs, width):
        part = weight[:, start : start + width].float()
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        if scheme.symmetric:
            high = torch.maximum(high, -low)
            low = -high
        scale = ((high - low) / (scheme.levels - 1)).clamp(min=1e-6).to(weight.dtype)
        zero = (-low / scale).round() if not scheme.symmetric else scale * 0 + scheme.levels // 2
        code = (part / scale[:, None].float()).round() + zero[:, None]
        codes.append(code.clamp(0, scheme.levels - 1).to(torch.uint8))
        scales.append(scale)
        zeros.append(zero.to(torch.uint8))
    zero_points = None if scheme.symmetric else torch.stack(zeros, 1)
    return Quantized.of(torch.cat(codes, 1), torch.stack(scales, 1), zero_points, scheme)


def quantize(
    model: MoEModel, scheme: Scheme, parts: Sequence[Any] = ("experts", "shared")
) -> MoEModel:
    for block in model.blocks:
        chosen = {m.name: rounded(block.weight(m), scheme) for m in block.matrices(*parts)}
        if chosen:
            model.apply(QuantizeWeights.of(block.index, chosen))
    return model


def logits(model: MoEModel) -> Tensor:
    with torch.no_grad():
        return model.lm(torch.arange(20).reshape(2, 10)).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_codes_come_back_and_the_formula_holds(scheme: Scheme) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 13, generator=generator)
    matrix = rounded(weight, scheme)
    codes = matrix.unpacked()
    assert matrix.shape == (6, 13)
    assert torch.equal(Quantized.of(codes, matrix.scales, matrix.zeros, scheme).codes, matrix.codes)
    values = matrix.dequantise()
    for row, column in ((0, 0), (5, 12), (3, 7)):
        group = column // scheme.group if scheme.group else 0
        zero = scheme.levels // 2 if matrix.zeros is None else int(matrix.zeros[row, group])
        expected = (int(codes[row, column]) - zero) * float(matrix.scales[row, group])
        assert float(values[row, column]) == pytest.approx(expected)
    worst = matrix.spread(matrix.scales) * (0.51 if not scheme.symmetric else 1.01)
    assert bool(((values - weight).abs() <= worst).all())


def test_stacks_and_rows_are_those_of_the_matrices() -> None:
    generator = torch.Generator().manual_seed(1)
    pair = [rounded(torch.randn(4, 10, generator=generator), Scheme(group=4)) for _ in range(2)]
    assert torch.equal(stack(pair)[1].dequantise(), pair[1].dequantise())
    assert torch.equal(concatenate(pair)[4:].dequantise(), pair[1].dequantise())
    with pytest.raises(ValueError, match="asymmetric"):
        Quantized.of(pair[0].unpacked(), pair[0].scales, None, Scheme(group=4))


@pytest.mark.parametrize("bits", [4, 8, 3])
def test_a_model_runs_packed_as_if_dequantised(
    bits: Any, family: str, tiny: Tiny, tmp_path: Path
) -> None:
    scheme = Scheme(bits=bits, group=8)
    parts: tuple[Part, ...] = ("experts", "shared", "dense", "attention")
    model, dense = tiny(family), tiny(family)
    for block in dense.blocks:
        values = {m.name: rounded(block.weight(m), scheme) for m in block.matrices(*parts)}
        dense.apply(SetWeights.of(block.index, {n: q.dequantise() for n, q in values.items()}))
    quantize(model, scheme, parts)
    torch.testing.assert_close(logits(model), logits(dense), rtol=1e-5, atol=1e-5)
    save(model, tmp_path / "artifact")
    again = load(tmp_path / "artifact")
    assert torch.equal(logits(again), logits(model))
    facts = audit(again, tmp_path / "artifact")
    assert facts["parameters"] == facts["base_parameters"]
    packed = [part for part in again.lm.modules() if isinstance(part, Packed)]
    assert bool(packed) == scheme.packed
    if scheme.packed:
        assert set(facts["quantized"].values()) == {1.0}
        size, before = measure_size(again, None), measure_size(tiny(family), None)
        assert size.parameters == before.parameters
        assert size.resident_bytes < before.resident_bytes


def test_in_any_order_or_refused_in_a_sentence(tiny: Tiny, tmp_path: Path) -> None:
    model = quantize(tiny("qwen2_moe"), Scheme(group=8))
    codes = Block(model, 1).quantized("experts.3.up")
    assert codes is not None
    model.apply(KeepExperts(block=1, experts=(0, 3, 4, 5)))
    model.apply(KeepExperts(block=2, experts=(1, 2, 4, 5), router="mask"))
    model.apply(SkipExperts(block=2, beta=0.4))
    model.apply(DropBlock(block=0))
    kept = Block(model, 1).quantized("experts.3.up")
    assert kept is not None
    assert torch.equal(kept.codes, codes.codes)
    weight = Block(model, 1).weight("experts.3.up")
    with pytest.raises(Refused, match=r"experts\.3\.up is quantized; change"):
        model.apply(SetWeights.of(1, {"experts.3.up": weight}))
    with pytest.raises(Refused, match="is quantized; factorise"):
        model.apply(LowRank.of(1, {"experts.3.up": (weight[:, :2], weight[:2])}))
    with pytest.raises(Refused, match="quantized experts, which cannot be merged"):
        groups = ((0, 3), (4, 5))
        model.apply(MergeExperts(block=1, groups=groups, weights=((1, 1), (1, 1))))
    with pytest.raises(Refused, match="quantized already"):
        model.apply(QuantizeWeights.of(1, {"experts.3.up": kept}))
    with pytest.raises(Refused, match="routers and norms stay"):
        router = rounded(Block(model, 1).weight("router"), Scheme(group=8))
        model.apply(QuantizeWeights.of(1, {"router": router}))
    save(model, tmp_path / "artifact")
    assert torch.equal(logits(load(tmp_path / "artifact")), logits(model))


def test_factors_are_packed_too(tiny: Tiny, tmp_path: Path) -> None:
    model = tiny("mixtral")
    for index in model.numbers:
        block = Block(model, index)
        low = {}
        for matrix in block.matrices("experts", "attention"):
            u, s, v = torch.linalg.svd(block.weight(matrix), full_matrices=False)
            rank = 3 + (matrix.expert or 0) % 2
            low[matrix.name] = (u[:, :rank] * s[:rank], v[:rank])
        model.apply(LowRank.of(index, low))
    quantize(model, Scheme(bits=8, group=2), ("experts", "attention"))
    assert Block(model, 0).quantized("experts.1.gate.v") is not None
    save(model, tmp_path / "artifact")
    again = load(tmp_path / "artifact")
    assert torch.equal(logits(again), logits(model))
    assert audit(again, tmp_path / "artifact")["quantized"] == {"experts": 1.0, "attention": 1.0}


def wide(scheme: Scheme, count: int = 3) -> Packed:
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(count, 64, 96, generator=generator).bfloat16()
    return Packed(stack([rounded(weight, scheme) for weight in weights]))


@pytest.mark.skipif(int4.block_rows() is None, reason="this processor's order of codes is unknown")
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_kernels_order_and_back_is_exact(symmetric: bool) -> None:
    packed = wide(Scheme(group=32, symmetric=symmetric))
    before = packed.quantized()
    values = [packed.dequantise(position) for position in range(3)]
    settle(packed)
    assert packed.settled
    after = packed.quantized()
    assert all(torch.equal(after.tensors[name], before.tensors[name]) for name in before.tensors)
    assert packed.state_dict().keys() == before.tensors.keys()
    for position, value in enumerate(values):
        torch.testing.assert_close(packed.dequantise(position), value, rtol=2**-7, atol=1e-6)


@pytest.mark.skipif(int4.block_rows() is None, reason="this processor's order of codes is unknown")
@pytest.mark.parametrize("rows", [1, FEW_ROWS, FEW_ROWS + 1])
def test_few_and_many_rows_give_the_same_product(rows: int) -> None:
    packed = wide(Scheme(group=32))
    settle(packed)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 96, generator=generator).bfloat16()
    exact = x.double() @ packed.dequantise(1, torch.float64).T
    product = packed.linear(x, 1).double()
    assert float((product - exact).norm() / exact.norm()) < 5e-3


def test_settled_models_save_the_same_file(tiny: Tiny, tmp_path: Path) -> None:
    model = tiny("mixtral")
    layer = model.layer(0).self_attn
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(64, 64, generator=generator).bfloat16()
    layer.q_proj = nn.Linear(64, 64, bias=False, dtype=torch.bfloat16)
    model.apply(QuantizeWeights.of(0, {"attention.q": rounded(weight, Scheme(group=32))}))
    before = {name: tensor.clone() for name, tensor in state(model).items()}
    settle(model.layer(0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(model).items())
    assert resident_bytes(model.lm) > 0


def test_four_bits_take_about_a_quarter_on_disk_and_in_memory(tmp_path: Path) -> None:
    config = tiny_config(
        "mixtral",
        vocab_size=64,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_local_experts=4,
    )
    torch.manual_seed(5)
    lm = from_config(config, dtype=torch.bfloat16)
    model = MoEModel(lm, ref="tiny", sha256="0")
    dense = resident_bytes(model.lm)
    chosen = [matrix for block in model.blocks for matrix in block.matrices("experts", "attention")]
    plain = 2 * sum(matrix.shape[0] * matrix.shape[1] for matrix in chosen)
    quantize(model, Scheme(group=128), ("experts", "attention"))
    save(model, tmp_path / "artifact")
    again = load(tmp_path / "artifact")
    stored = sum(
        tensor.nbytes
        for name, tensor in state(again).items()
        if name.endswith(("codes", "scales", "zeros"))
    )
    assert stored <= 0.27 * plain
    rest = dense - plain
    assert resident_bytes(again.lm) <= 1.05 * (stored + rest)
    with torch.no_grad():  # nothing is unpacked for good by running
        again.lm(torch.arange(40).reshape(1, 40))
        again.lm(torch.arange(2).reshape(1, 2))
    assert resident_bytes(again.lm) <= 1.05 * (stored + rest)
