# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""4-bit codes as numbers that tensor cores multiply.

A code becomes a half-precision number without any conversion: written into the mantissa of 128
(bf16) or 1024 (fp16) it adds itself. Codes are taken four to a 16-bit word, so that on NVIDIA's
devices one instruction does so for a register that holds two words.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def words_at(row, word, width, WORDS: tl.constexpr, EVEN: tl.constexpr):
    """16-bit words of four codes each, [N, words].

    Args:
        row: Pointers to rows, [N, 1], of words or, where a row has an odd number of bytes, bytes.
        word: Which words of a row.
        width: Words or bytes of a row.
        WORDS: Rows are of words.
        EVEN: Rows of words have all that are asked for.
    """
    if WORDS and EVEN:
        words = tl.load(row + word[None, :])
    elif WORDS:
        words = tl.load(row + word[None, :], (word < width)[None, :], 0)
    else:
        lower = 2 * word[None, :]
        words = tl.load(row + lower, lower < width, 0).to(tl.int16)
        words |= tl.load(row + lower + 1, lower + 1 < width, 0).to(tl.int16) << 8
    return words


@triton.jit
def values_at(row, k, inputs, FACTOR: tl.constexpr, BITS: tl.constexpr, EVEN: tl.constexpr):
    """Dense weights, or 8-bit codes less 128, at the columns k of rows, [N, columns]."""
    if EVEN:
        values = tl.load(row + k[None, :])
    else:
        values = tl.load(row + k[None, :], (k < inputs)[None, :], 0)
    if BITS == 8:
        values = (values ^ 128).to(tl.int8, bitcast=True)
    return values.to(FACTOR)


@triton.jit
def quarter(words, i: tl.constexpr, FACTOR: tl.constexpr, ASM: tl.constexpr):
    """128, or in fp16 1024, plus the codes at place i of words.

    Args:
        words: int16; code 4 j + i of a row is at place i of its word j.
        i: 0 to 3.
        FACTOR: dtype of the result.
        ASM: Through PTX; for bf16 and fp16.
    """
    if ASM:
        if tl.float16 == FACTOR:
            codes = tl.inline_asm_elementwise(
                f"{{ .reg .b32 t; shr.b32 t, $1, {4 * i};"
                " lop3.b32 $0, t, 0x000F000F, 0x64006400, 0xEA; }",  # (t & mask) | 1024 twice
                "=r,r",
                [words],
                tl.float16,
                is_pure=True,
                pack=2,
            )
        else:
            codes = tl.inline_asm_elementwise(
                f"{{ .reg .b32 t; shr.b32 t, $1, {4 * i};"
                " lop3.b32 $0, t, 0x000F000F, 0x43004300, 0xEA; }",
                "=r,r",
                [words],
                tl.bfloat16,
                is_pure=True,
                pack=2,
            )
    else:
        codes = (words >> (4 * i)) & 15
        if tl.float16 == FACTOR:
            codes = (codes | 0x6400).to(tl.float16, bitcast=True)
        else:
            codes = (codes | 0x4300).to(tl.bfloat16, bitcast=True).to(FACTOR)
    return codes


@triton.jit
def scaled(
    value, g, g_line, scales, zeros, ZEROS: tl.constexpr, ZERO: tl.constexpr, SHIFT: tl.constexpr
):
    """Weights, [N, columns], each with its own column's scale, in the dtype of `value`.

    Args:
        value: Codes plus SHIFT.
        g: Groups of the columns.
        g_line: Where rows start in scales and zeros, [N].
        scales: Pointer.
        zeros: Pointer.
        ZEROS: It is read.
        ZERO: Everybody's zero, if it is not.
        SHIFT: As in `value`.
    """
    here = g_line[:, None] + g[None, :]
    weight = value.to(tl.float32) - SHIFT
    if ZEROS:
        weight -= tl.load(zeros + here).to(tl.float32)
    else:
        weight -= ZERO
    return (weight * tl.load(scales + here).to(tl.float32)).to(value.dtype)


@triton.jit
def of_group(xs, s: tl.constexpr, SPAN: tl.constexpr):
    """The s-th of SPAN groups side by side in xs [M, columns]; the others' columns are zero."""
    if SPAN > 1:
        column = tl.arange(0, xs.shape[1])
        mine = column // (xs.shape[1] // SPAN) == s
        xs = tl.where(mine[None, :], xs, 0.0).to(xs.dtype)
    return xs
