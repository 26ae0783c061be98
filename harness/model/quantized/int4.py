"""4-bit products on the CPU, and the order in which torch's kernel wants codes.

`aten::_weight_int4pack_mm_for_cpu` multiplies bfloat16 rows with packed weights. Rows of the weight
are taken in blocks, 64 or 32 of them as the processor has it; a byte holds a row of the block's
first half and, in its upper half, the row of the second half at the same place. Which block it is
is found out by packing one small matrix, so an order that nobody here knows is never misread: the
kernel is then not used. Where the order is that of AVX2, `harness.model.quantized.native`
multiplies instead.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from harness.model.quantized import native
from harness.model.quantized.scheme import Quantized

GROUPS = (32, 64, 128, 256)
"""Inputs per group that the kernel takes."""
MIDDLE = 8
"""Number that the kernel subtracts from every code."""
BLOCKS = (64, 32)


@functools.cache
def block_rows() -> int | None:
    """Rows of a block on this processor; None where the order is none of those known here."""
    codes = torch.arange(64 * 32, dtype=torch.int32).view(64, 32) * 7 % 16
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    for rows in BLOCKS:
        if torch.equal(interleave(codes.to(torch.uint8), rows).flatten(), packed.flatten()):
            return rows
    return None


def suits(weight: Quantized) -> bool:
    """True if the kernel can multiply with this matrix, or with each of a stack."""
    outputs, inputs = weight.shape
    scheme = weight.scheme
    if weight.scales.device.type != "cpu" or weight.scales.dtype != torch.bfloat16:
        return False
    if scheme.bits != 4 or scheme.group not in GROUPS or inputs % scheme.group:
        return False
    rows = block_rows()
    return rows is not None and outputs % rows == 0


def interleave(codes: Tensor, rows: int) -> Tensor:
    """Codes uint8 [..., outputs, inputs] in the kernel's order, [..., outputs, inputs / 2]."""
    *outer, outputs, inputs = codes.shape
    blocks = codes.reshape(*outer, outputs // rows, 2, rows // 2, inputs).mT
    packed = blocks[..., 0, :, :] | (blocks[..., 1, :, :] << 4)  # [..., blocks, inputs, rows / 2]
    return packed.reshape(*outer, outputs, inputs // 2)


def transposed(packed: Tensor, rows: int) -> Tensor:
    """Codes uint8 [..., inputs, outputs], out of the kernel's order."""
    *outer, outputs, half = packed.shape
    blocks = packed.view(*outer, outputs // rows, 2 * half, rows // 2).movedim(-3, -2)
    return torch.stack([blocks & 15, blocks >> 4], -2).reshape(*outer, 2 * half, outputs)


def scales_and_shifts(weight: Quantized) -> Tensor:
    """bfloat16 [..., groups, outputs, 2]: W = (code - 8) * scale + shift."""
    scales = weight.scales.float()
    zeros = MIDDLE if weight.zeros is None else weight.zeros.float()
    shifts = scales * (MIDDLE - zeros)
    return torch.stack([scales, shifts], -1).movedim(-2, -3).to(torch.bfloat16).contiguous()


def zeros_of(scales: Tensor, shifts: Tensor) -> Tensor:
    """The zeros, uint8, exactly: bfloat16 keeps a shift to less than a hundredth of a scale."""
    return (MIDDLE - shifts.float() / scales.float()).round().to(torch.uint8)


def linear(x: Tensor, packed: Tensor, scales: Tensor, group: int) -> Tensor:
    """Rows times a matrix, x W^T, bfloat16 [rows, outputs].

    Args:
        x: bfloat16 [rows, inputs].
        packed: uint8 [outputs, inputs / 2], in the kernel's order.
        scales: As `scales_and_shifts` gives them for one matrix.
        group: Inputs per group.
    """
    own = native.product() if block_rows() == native.ROWS else None
    if own is not None:
        return own(x, packed, scales, group)
    out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, group, scales)
    return out
