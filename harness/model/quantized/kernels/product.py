# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# mypy: disable-error-code="possibly-undefined"
"""The grouped kernel: y_r = W_e x_r for rows r of experts e, W packed or dense.

A program multiplies one tile of rows (all of one expert) with a block of that expert's outputs,
over all inputs or one share of them. The weights are the left operand of the tensor cores: they
are unpacked in registers, and few rows cost few columns.

code - zero is an integer that half-precision formats hold exactly. So as long as steps and groups
fit, products are summed over integers in fp32, a group's sum is multiplied by its scale, and no
weight is ever rounded. A step that spans several groups multiplies once for each, the other groups'
inputs set to zero. Where steps and groups do not fit, weights are dequantised in fp32 and rounded
to the dtype of x.
"""

from __future__ import annotations

import triton
import triton.language as tl

from harness.model.quantized.kernels.codes import of_group, quarter, scaled, values_at, words_at
from harness.model.quantized.kernels.tile_rows import rows_of


# Over 60 lines, half of them its arguments: what a split costs can be measured on a GPU only.
@triton.jit
def product(
    x,  # [rows, inputs]
    weights,  # [experts, outputs, width]: bytes or 16-bit words of codes, or weights
    scales,  # [experts, outputs, groups]
    zeros,  # uint8 [experts, outputs, groups]
    slots,  # [rows]
    order,  # int32 [rows]
    table,  # int32 [3, tiles]
    out,  # [shares, rows, outputs]
    rows,
    experts,
    outputs,
    inputs,
    width,
    groups,
    group,  # inputs that share a scale
    stride,  # of x's rows
    SEARCH: tl.constexpr,  # tiles are found from slots
    LIST: tl.constexpr,  # tiles are listed in order and table
    BITS: tl.constexpr,  # 4 or 8; 0: dense
    ZEROS: tl.constexpr,  # there are zeros
    SPAN: tl.constexpr,  # groups of a step; 0: steps and groups do not fit
    WORDS: tl.constexpr,  # codes are passed in 16-bit words
    EVEN: tl.constexpr,  # inputs are a multiple of K
    ASM: tl.constexpr,  # as in `quarter`
    ROWS: tl.constexpr,  # as in `sought`
    BINS: tl.constexpr,
    M: tl.constexpr,  # rows of a tile
    N: tl.constexpr,  # outputs of a block
    K: tl.constexpr,  # inputs of a step
    FACTOR: tl.constexpr,  # dtype in which factors are multiplied
):
    """One tile of rows times one block of outputs, over one share of the inputs.

    Grid: (tiles, blocks of outputs, shares). Rows that lead nowhere are in no tile: the caller
    fills them.
    """
    expert, row = rows_of(slots, order, table, rows, experts, SEARCH, LIST, ROWS, BINS, M)
    if expert >= experts:
        return
    real = row >= 0
    column = tl.program_id(1) * N + tl.arange(0, N)
    line = tl.cast(expert, tl.int64) * outputs + tl.minimum(column, outputs - 1)  # [N]
    x_line = x + row.to(tl.int64)[:, None] * stride
    w_line = weights + line[:, None] * width
    g_line = line * groups

    ZERO: tl.constexpr = 8 if BITS == 4 else 128  # of codes without zeros
    OFFSET: tl.constexpr = 1024 if tl.float16 == FACTOR else 128  # of `quarter`
    SHIFT: tl.constexpr = OFFSET if BITS == 4 else -128  # of codes as they are multiplied
    zero = tl.full([N], ZERO + SHIFT, FACTOR)
    scale = tl.full([N], 1.0, tl.float32)

    share = tl.program_id(2)
    length = tl.cdiv(tl.cdiv(inputs, K), tl.num_programs(2)) * K
    acc = tl.zeros([N, M], tl.float32)
    for start in range(share * length, tl.minimum((share + 1) * length, inputs), K):
        k = start + tl.arange(0, K)
        filled = real[:, None] if EVEN else real[:, None] & (k < inputs)[None, :]
        xs = tl.load(x_line + k[None, :], filled, 0).to(FACTOR)
        if BITS == 4:
            words = words_at(w_line, start // 4 + tl.arange(0, K // 4), width, WORDS, EVEN)
            even, odd = tl.split(tl.reshape(xs, [M, K // 4, 2, 2]))
            x0, x2 = tl.split(even)
            x1, x3 = tl.split(odd)
            quarters = (x0, x1, x2, x3)
        else:
            w = values_at(w_line, k, inputs, FACTOR, BITS, EVEN)
        for s in tl.static_range(SPAN if SPAN > 1 else 1):
            if SPAN > 0:
                here = g_line + tl.minimum(start // group + s, groups - 1)
                scale = tl.load(scales + here).to(tl.float32)
                if ZEROS:
                    zero = tl.load(zeros + here).to(FACTOR) + SHIFT
            if BITS == 4:
                part = tl.zeros([N, M], tl.float32)
                for i in tl.static_range(4):
                    w = quarter(words, i, FACTOR, ASM)
                    if SPAN > 0:
                        w -= zero[:, None]
                    else:
                        g = tl.minimum((start + 4 * tl.arange(0, K // 4) + i) // group, groups - 1)
                        w = scaled(w, g, g_line, scales, zeros, ZEROS, ZERO, SHIFT)
                    xi = of_group(quarters[i], s, SPAN)
                    part = tl.dot(w, tl.trans(xi), part, input_precision="ieee")
            else:
                if BITS == 8:
                    if SPAN > 0:
                        w -= zero[:, None]
                    else:
                        g = tl.minimum(k // group, groups - 1)
                        w = scaled(w, g, g_line, scales, zeros, ZEROS, ZERO, SHIFT)
                part = tl.dot(w, tl.trans(xs), input_precision="ieee")
            acc += part * scale[:, None]
    target = out + (share * rows + row).to(tl.int64)[None, :] * outputs + column[:, None]
    tl.store(target, acc.to(out.dtype.element_ty), (column < outputs)[:, None] & real[None, :])
