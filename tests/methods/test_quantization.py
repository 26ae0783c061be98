"""Grids, rounding and GPTQ's columns against direct computations, and what is said of errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from harness.calibration.statistics.inputs import Covariances
from harness.calibration.walk import Calibration
from harness.errors import Refused, UserError
from harness.method.inverse import inverse_factor
from harness.method.quantization.grid import fit, rounded
from harness.method.recipe import BoundStep, StepReport, compress
from harness.method.registry import build
from harness.model.edits import QuantizeWeights, SetWeights
from harness.model.quantized.scheme import Scheme
from harness.model.view import MoEModel
from methods.quantization.gptq.gptq import GPTQ
from tests.benchmarks.held_out import layer_errors, matrix_errors

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment_of(inputs: int, tokens: int = 200, seed: int = 0) -> Tensor:
    x = normal(tokens, inputs, seed=seed) @ normal(inputs, inputs, seed=seed + 1)
    return x.T @ x


def run(
    model: MoEModel, calibration: Calibration, name: str, **options: Any
) -> tuple[dict[str, Any], StepReport]:
    (report,) = compress(model, [BoundStep(build(name, options), calibration)])
    return {note.name: note.data for note in report.notes}, report


# --- grids ---


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_an_asymmetric_grid_reaches_from_least_to_largest(bits: Literal[2, 3, 4, 8]) -> None:
    scheme = Scheme(bits=bits, group=4)
    values = torch.tensor([[-1.0, 0.5, 2.0, 0.0], [1.0, 2.0, 3.0, 0.5], [-3.0, -1.0, -2.0, -3.0]])
    scales, zeros = fit(values, scheme, torch.float32)
    top = 2**bits - 1
    torch.testing.assert_close(scales, torch.tensor([3.0, 3.0, 3.0]) / top)
    assert zeros.tolist() == [round(top / 3), 0, top]


def test_a_symmetric_grid_has_its_zero_in_the_middle_whatever_the_signs() -> None:
    values = torch.tensor([[-1.0, 3.0], [1.0, 3.0], [-3.0, -1.0]])
    scales, zeros = fit(values, Scheme(group=2, symmetric=True), torch.float32)
    torch.testing.assert_close(scales, torch.full((3,), 6 / 15))
    assert zeros.tolist() == [8, 8, 8]


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_group_of_zeros_stays_zero(symmetric: bool) -> None:
    weight = torch.zeros(2, 8)
    weight[1, 4:] = 1e-30
    values = rounded(weight, Scheme(group=4, symmetric=symmetric)).dequantise()
    assert not values[0].any()
    assert not values[1, :4].any()
    assert values.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_codes_follow_from_the_scales_that_are_stored(dtype: torch.dtype) -> None:
    """Rounding a scale after the codes are chosen would move every value by up to 15 times it."""
    weight = normal(6, 40).to(dtype)
    matrix = rounded(weight, Scheme(group=16))
    assert matrix.scales.dtype == dtype
    assert matrix.scales.shape == (6, 3)
    step = matrix.spread(matrix.scales.float())
    error = (matrix.dequantise(torch.float32) - weight.float()).abs()
    inside = (matrix.unpacked() > 0) & (matrix.unpacked() < 15)
    assert bool((error <= step / 2 * (1 + 1e-5))[inside].all())
    assert float((error / step).max()) < 0.6  # at the ends a rounded scale may cut a little off


def test_scales_too_small_for_half_precision() -> None:
    weight = torch.full((1, 4), 1e-7, dtype=torch.float16)
    matrix = rounded(weight, Scheme(bits=8, group=4))
    assert matrix.scales.item() > 0
    assert matrix.dequantise().isfinite().all()


def test_a_short_last_group_is_a_group_of_its_own() -> None:
    weight, scheme = normal(5, 40).float(), Scheme(group=32)
    whole = rounded(weight, scheme).dequantise()
    parts = [rounded(part, scheme).dequantise() for part in (weight[:, :32], weight[:, 32:])]
    assert torch.equal(whole, torch.cat(parts, 1))


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_search_lowers_the_error_it_is_about(symmetric: bool) -> None:
    scheme, weight = Scheme(bits=3, group=32, symmetric=symmetric), normal(20, 64)
    plain, searched = (
        (rounded(weight, scheme, search=one).dequantise() - weight).abs().pow(2.4)
        for one in (False, True)
    )
    sums = [error.reshape(20, 2, 32).sum(-1) for error in (searched, plain)]
    assert bool((sums[0] <= sums[1]).all())
    assert float(sums[0].sum()) < 0.9 * float(sums[1].sum())


# --- GPTQ's columns ---


def stepwise(weight: Tensor, moment: Tensor, group: int, *, static: bool, order: Tensor) -> Tensor:
    """GPTQ as its paper derives it: a fresh inverse of what is left of H for every column."""
    size, inputs = group or weight.shape[1], weight.shape[1]
    damped = moment + 0.01 * moment.diagonal().mean() * torch.eye(inputs, dtype=moment.dtype)
    left, result = weight.clone(), torch.zeros_like(weight)
    scheme = Scheme(group=group)
    grids = [fit(part, scheme, torch.float64) for part in torch.split(weight, size, 1)]
    columns = order.tolist()
    for done, column in enumerate(columns):
        if not static and group and column % size == 0:
            here = left[:, column : column + size]
            grids[column // size] = fit(here, scheme, torch.float64)
        scale, zero = grids[column // size]
        code = ((left[:, column] / scale).round() + zero).clamp(0, 15)
        result[:, column] = (code - zero) * scale
        rest = columns[done:]
        inverse = torch.linalg.inv(damped[rest][:, rest])
        error = (left[:, column] - result[:, column]) / inverse[0, 0]
        left[:, rest] -= torch.outer(error, inverse[0])
    return result


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({"group": 32}, 32),
        ({"group": 32}, 128),
        ({"group": 32}, 8),
        ({"group": 32, "static_groups": True}, 5),
        ({"group": 32, "static_groups": True, "act_order": True}, 128),
        ({"group": 0, "act_order": True}, 16),
        ({"group": 0}, 128),
    ],
)
def test_gptq_is_the_stepwise_solution(options: dict[str, Any], columns: int) -> None:
    """Side by side, with short last groups, however many columns are taken together."""
    weights = torch.stack([normal(12, 72, seed=seed) for seed in (5, 6)])
    moments = torch.stack([moment_of(72, seed=seed) for seed in (1, 3)])
    method = GPTQ(columns=columns, **options)
    ours = method.solve(weights, moments).dequantise(torch.float64)
    for weight, moment, solved in zip(weights, moments, ours, strict=True):
        order = torch.arange(72)
        if method.act_order:
            order = moment.diagonal().argsort(descending=True, stable=True)
        wanted = stepwise(weight, moment, method.group, static=method.static_groups, order=order)
        torch.testing.assert_close(solved, wanted, atol=1e-5, rtol=0)  # dequantised in fp32


def test_columns_taken_together_must_fit_the_groups() -> None:
    with pytest.raises(UserError, match="columns = 48 cuts groups of 32"):
        build("gptq", {"group": 32, "columns": 48})
    with pytest.raises(UserError, match="static_groups = true or group = 0"):
        build("gptq", {"group": 32, "act_order": True})
    with pytest.raises(UserError, match="not both"):
        build("gptq", {"static_groups": True, "lazy_groups": True})


def test_a_stack_of_factors_is_the_factors_one_by_one() -> None:
    """Also where one of them needs more damping than the others."""
    indefinite = torch.ones(8, 8, dtype=torch.float64) - 0.05 * torch.eye(8)
    moments = torch.stack([moment_of(8), indefinite, moment_of(8, seed=4)])
    together = inverse_factor(moments, 0.01)
    for moment, upper in zip(moments, together, strict=True):
        torch.testing.assert_close(upper, inverse_factor(moment, 0.01))


def test_inputs_that_are_always_zero_are_rounded_to_nearest() -> None:
    moment, weight = moment_of(32), normal(6, 32)
    moment[3], moment[:, 3] = 0.0, 0.0
    method = GPTQ(group=32, static_groups=True)
    solved = method.solve(weight[None], moment[None]).dequantise()[0]
    plain = rounded(weight, method.scheme).dequantise()
    assert torch.equal(solved[:, 3], plain[:, 3])
    assert solved[:, 3].any()
    assert not torch.equal(solved, plain)


# --- methods on models ---


@pytest.mark.parametrize("symmetric", [False, True])
def test_gptqs_objective_is_below_that_of_rounding(
    family: str, symmetric: bool, tiny: Tiny, calibration: Calibrate
) -> None:
    """In every block, and it is the squared error of the outputs on the calibration tokens."""
    before, after = tiny(family), tiny(family)
    options = {"group": 32, "min_tokens": 1, "symmetric": symmetric}
    notes, _ = run(after, calibration(), "gptq", **options, propagate="original")
    errors = notes["quantization.error"]
    assert list(errors) == [block.index for block in before.moe_blocks()]
    for block in calibration().walk(before):
        if block.index not in errors:
            continue
        ours, rtn = errors[block.index]["ours"], errors[block.index]["rtn"]
        assert ours < rtn
        with torch.no_grad():
            sums = block.collect(Covariances("experts", "shared")).sums
        changed = next(one for one in after.blocks if one.index == block.index)
        direct = 0.0
        for name, moment in sums.items():
            difference = (block.weight(name) - changed.weight(name)).double()
            direct += float(torch.trace(difference @ moment.double() @ difference.T))
        assert ours == pytest.approx(direct, rel=1e-4)


def test_experts_with_few_tokens_are_rounded_and_the_record_says_so(
    tiny: Tiny, calibration: Calibrate
) -> None:
    tokens = calibration(sequences=2)
    model, plain = tiny("qwen2_moe"), tiny("qwen2_moe")
    notes, _ = run(model, tokens, "gptq", group=32, min_tokens=13)
    run(plain, tokens, "rtn", group=32)
    rounded_ones, same = notes["quantization.rounded"], []
    for block, other in zip(model.blocks, plain.blocks, strict=True):
        counts = tokens.coverage[block.index].count.tolist()
        for matrix in block.matrices("experts", "shared"):
            few = matrix.expert is not None and counts[matrix.expert] < 13
            starved = rounded_ones.get(block.index, {}).get(matrix.name)
            assert starved == (counts[matrix.expert] if matrix.expert is not None and few else None)
            equal = torch.equal(block.weight(matrix), other.weight(matrix))
            assert equal or not few
            same.append(equal)
    assert rounded_ones
    assert not all(same)


@pytest.mark.parametrize("name", ["rtn", "gptq"])
@pytest.mark.parametrize("bits", [2, 4])
def test_every_weight_lies_on_its_grid(
    name: str, bits: int, tiny: Tiny, calibration: Calibrate
) -> None:
    model = tiny("mixtral")
    run(model, calibration(), name, bits=bits, group=0, targets=["experts", "attention"])
    edits = [edit for edit in model.edits if isinstance(edit, QuantizeWeights)]
    assert sum(len(edit.matrices) for edit in edits) == 4 * (6 * 3 + 4)
    for block in model.blocks:
        for matrix in block.matrices("experts", "attention"):
            for row in block.weight(matrix):
                assert len(set(row.tolist())) <= 2**bits
            assert (block.packed_scheme(matrix) is not None) == (bits == 4)
        assert len(set(block.weight("router")[0].tolist())) == 16


def test_what_cannot_be_quantized(tiny: Tiny, calibration: Calibrate) -> None:
    model, tokens = tiny("mixtral"), calibration()
    with pytest.raises(UserError, match="targets is empty"):
        build("rtn", {"targets": []})
    with pytest.raises(UserError, match="option 'targets"):
        build("rtn", {"targets": ["router"]})
    with pytest.raises(Refused, match="has no 'shared'; it has experts, router, attention"):
        run(model, tokens, "rtn", targets=["shared"])
    run(model, tokens, "rtn", group=32)
    for name in ("rtn", "gptq"):
        with pytest.raises(Refused, match="is quantized already; quantize once"):
            run(model, tokens, name, group=32)
    run(model, tokens, "gptq", group=32, targets=["attention"])  # another part may follow


def test_a_dense_model(tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("llama")
    notes, _ = run(model, calibration(), "gptq", group=32, min_tokens=1)
    errors = notes["quantization.error"].values()
    assert errors
    assert all(one["ours"] < one["rtn"] for one in errors)
    names = {name for edit in model.edits for name in edit.matrices}  # type: ignore[attr-defined]
    assert names == {"dense.gate", "dense.up", "dense.down"}


# --- errors on other tokens ---


def test_errors_on_other_tokens(family: str, tiny: Tiny, calibration: Calibrate) -> None:
    before, after, tokens = tiny(family), tiny(family), calibration(padded=True)
    with torch.no_grad():
        assert set(layer_errors(before, tiny(family), tokens).values()) == {0.0}
        run(after, tokens, "rtn", bits=8, group=32)
        layers = layer_errors(before, after, tokens)
        errors = matrix_errors(before, after, tokens)
        coarse = tiny(family)
        run(coarse, tokens, "rtn", bits=4, group=32)
        worse = layer_errors(before, coarse, tokens)
        for block in tokens.walk(before):
            moments = block.collect(Covariances()).sums
            for name, error in errors.get(block.index, {}).items():
                weight = block.weight(name).double()
                wrong = weight - after.blocks[block.index].weight(name).double()
                whole, part = (float((one @ moments[name] * one).sum()) for one in (weight, wrong))
                assert error == pytest.approx((part / whole) ** 0.5, rel=1e-6)
    routed = {block.index for block in before.moe_blocks()}
    assert {index for index, error in layers.items() if error} == routed == set(errors)
    assert all(0 < layers[index] < worse[index] / 4 for index in routed)


def test_matrices_that_other_edits_changed_are_not_compared(
    tiny: Tiny, calibration: Calibrate
) -> None:
    before, after = tiny("mixtral"), tiny("mixtral")
    after.apply(SetWeights.of(1, {"mlp_norm": torch.ones(16) * 2}))
    with pytest.raises(Refused, match="set_weights came with the quantization"):
        matrix_errors(before, after, calibration())
