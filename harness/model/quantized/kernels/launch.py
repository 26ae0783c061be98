"""Products of rows with their experts' matrices, packed or dense, without reading anything back."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.model.quantized.kernels.product import product
from harness.model.quantized.kernels.tiles import Tiles
from harness.model.quantized.scheme import Quantized

SHARES = 8
"""Into so many shares the inputs are split at most."""
STEPS = 4
"""Steps that a share has at least."""
SMALLEST = 16
"""Inputs of a group so small that a step may still hold several."""
WAVES = 4
"""Programs for every multiprocessor, as long as there are inputs to split."""
MULTIPROCESSORS = 132
"""Multiprocessors assumed where there is no device to ask."""


@dataclass(frozen=True)
class LaunchPlan:
    """Tile sizes of one product: of outputs and inputs, and shares of the inputs."""

    outputs: int
    inputs: int
    span: int
    """Groups of a step, or 0: see `product`."""
    shares: int


def grouped_rows(x: Tensor, slots: Tensor | Tiles, weight: Tensor | Quantized) -> Tensor:
    """y_r = W_e x_r, e the expert of row r; nothing is computed for rows that lead nowhere.

    Accumulates in fp32. Weights in groups of 16, of 32, of multiples of 64 or of whole rows are not
    rounded (of 8 bits: of multiples of 32); in others each is rounded to the dtype of `x`.

    Args:
        x: [rows, inputs], bf16, fp16 or fp32.
        slots: Expert of each row, int32 or int64 [rows]; outside 0..experts-1: nowhere. Or the
            same grouped already, for several products.
        weight: [experts, outputs, inputs]; a dense one has the dtype of `x`.

    Returns:
        [rows, outputs] in the dtype of `x`; zero where a row leads nowhere.

    Raises:
        ValueError: shapes or dtypes do not fit.
    """
    quantized = weight if isinstance(weight, Quantized) else None
    codes = weight.codes if isinstance(weight, Quantized) else weight
    experts, outputs = codes.shape[:2]
    inputs = codes.shape[2] if quantized is None else quantized.inputs
    tiles = slots if isinstance(slots, Tiles) else Tiles.of(slots, experts)
    _check(x, tiles, weight, (experts, outputs, inputs))
    if tiles.rows == 0:
        return x.new_zeros(0, outputs)
    plan = plan_for(tiles, outputs, inputs, quantized, x)
    whole = plan.shares == 1 and x.is_cuda
    dtype = x.dtype if whole else torch.float32
    out = x.new_zeros(plan.shares, tiles.rows, outputs, dtype=dtype)
    _launch(x if x.stride(-1) == 1 else x.contiguous(), tiles, codes, quantized, out, plan)
    return out[0] if whole else out.sum(0).to(x.dtype)


def plan_for(
    tiles: Tiles, outputs: int, inputs: int, quantized: Quantized | None, x: Tensor
) -> LaunchPlan:
    """Tile sizes, from shapes alone: the same shapes always give the same bits."""
    step, span = _step(inputs, quantized, x)
    full = x.dtype == torch.float32
    block = 64 if full or tiles.count * outputs < 128 * 2 * _multiprocessors(x) else 128
    steps, programs = -(-inputs // step), tiles.count * -(-outputs // block)
    shares = 1
    while programs * shares < WAVES * _multiprocessors(x) and steps >= 2 * shares * STEPS:
        shares *= 2
    return LaunchPlan(block, step, span, min(shares, SHARES))


def _step(inputs: int, quantized: Quantized | None, x: Tensor) -> tuple[int, int]:
    """Inputs of a step, and the groups that it spans, 0 where they do not fit.

    Tensor cores sum over at least 16 columns, and 4-bit codes come four to a word.
    """
    least = 64 if quantized is not None and quantized.scheme.bits == 4 else 32
    most = least if x.dtype == torch.float32 else (64 if quantized is None else 128)
    step = min(most, max(triton.next_power_of_2(inputs), least))
    if quantized is None:
        return step, 0
    if quantized.scales.shape[-1] == 1:
        return step, 1
    group = quantized.scheme.group
    while group % step and step > least:
        step //= 2
    if group % step == 0:
        return step, 1
    fits = quantized.scheme.bits == 4 and step % group == 0 and group >= SMALLEST
    return step, step // group if fits else 0


def _launch(
    x: Tensor,
    tiles: Tiles,
    codes: Tensor,
    quantized: Quantized | None,
    out: Tensor,
    plan: LaunchPlan,
) -> None:
    """Run the kernel; `x` also takes the places of what it does not read."""
    inputs, (experts, outputs, width) = x.shape[1], codes.shape
    bits = 0 if quantized is None else quantized.scheme.bits
    weights = codes.contiguous()
    words = bits == 4 and width % 2 == 0
    if words:
        weights = weights.view(torch.int16)
    scales = None if quantized is None else quantized.scales.contiguous()
    zeros = None if quantized is None or quantized.zeros is None else quantized.zeros.contiguous()
    groups = 1 if scales is None else scales.shape[-1]
    searched = tiles.slots is not None and tiles.table is None
    product[(tiles.count, -(-outputs // plan.outputs), plan.shares)](
        x,
        weights,
        x if scales is None else scales,
        x if zeros is None else zeros,
        x if tiles.slots is None else tiles.slots,
        x if tiles.order is None else tiles.order,
        x if tiles.table is None else tiles.table,
        out,
        tiles.rows,
        experts,
        outputs,
        inputs,
        weights.shape[2],
        groups,
        inputs if quantized is None or groups == 1 else quantized.scheme.group,
        x.stride(0),
        SEARCH=searched,
        LIST=tiles.table is not None,
        BITS=bits,
        ZEROS=zeros is not None,
        SPAN=plan.span,
        WORDS=words,
        EVEN=inputs % plan.inputs == 0,
        ASM=x.is_cuda and x.dtype != torch.float32,
        ROWS=triton.next_power_of_2(tiles.rows) if searched else 1,
        BINS=triton.next_power_of_2(experts + 1) if searched else 1,
        M=tiles.height,
        N=plan.outputs,
        K=plan.inputs,
        FACTOR=_factor(x),
        num_warps=8 if plan.outputs * tiles.height >= 128 * 64 else 4,
        num_stages=3,
    )


def _check(
    x: Tensor, tiles: Tiles, weight: Tensor | Quantized, shape: tuple[int, int, int]
) -> None:
    experts, outputs, inputs = shape
    if tuple(x.shape) != (tiles.rows, inputs) or tiles.experts != experts:
        raise ValueError(
            f"{tiles.rows} rows of {tiles.experts} experts with x {tuple(x.shape)} do not fit "
            f"weights [{experts}, {outputs}, {inputs}]"
        )
    if isinstance(weight, Tensor) and weight.dtype != x.dtype:
        raise ValueError(f"x is {x.dtype}, the weights are {weight.dtype}")
    if isinstance(weight, Quantized) and not weight.scheme.packed:
        raise ValueError(f"weights of {weight.scheme.bits} bits are not kept packed")


@functools.cache
def _processors(index: int) -> int:
    return torch.cuda.get_device_properties(index).multi_processor_count


def _multiprocessors(x: Tensor) -> int:
    return _processors(x.get_device()) if x.is_cuda else MULTIPROCESSORS


def _factor(x: Tensor) -> tl.dtype:
    """The dtype of `x`; Triton's interpreter would multiply the bit patterns of bf16."""
    if x.is_cuda:
        return {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}.get(x.dtype, tl.float32)
    return tl.float32
