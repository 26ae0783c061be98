"""Quantized matrices: integer codes on a grid per group of inputs, packed into bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class Scheme(BaseModel):
    """A quantization scheme: bits, inputs per group, and whether the grid is symmetric."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: Literal[2, 3, 4, 8] = 4
    group: int = Field(default=128, ge=0)
    """Consecutive inputs that share a scale; 0: all of a row."""
    symmetric: bool = False
    """Zero at the middle of the grid, and not stored."""

    @property
    def packed(self) -> bool:
        """True if codes stay packed in memory and on disk; 2 and 3 bits are simulated."""
        return self.bits in (4, 8)

    @property
    def levels(self) -> int:
        """Points of the grid."""
        return int(2**self.bits)

    def groups(self, inputs: int) -> int:
        """Groups of a row; the last may be short."""
        return -(-inputs // self.group) if self.group else 1

    def width(self, inputs: int) -> int:
        """Bytes of a row of codes."""
        return -(-inputs // 2) if self.bits == 4 else inputs


@dataclass(frozen=True, eq=False)
class Quantized:
    """One quantized matrix, or a stack of them: W = (code - zero) * scale.

    Attributes:
        scheme: Bits, group, symmetry.
        inputs: Columns of the matrix.
        codes: uint8 [..., outputs, bytes of a row]. 4 bits: two per byte, the even column in the
            low half, odd widths padded with 0. Otherwise one per byte.
        scales: [..., outputs, groups], floating point.
        zeros: uint8 [..., outputs, groups]; None in a symmetric scheme, whose zero is levels / 2.
    """

    scheme: Scheme
    inputs: int
    codes: Tensor
    scales: Tensor
    zeros: Tensor | None

    @classmethod
    def of(cls, codes: Tensor, scales: Tensor, zeros: Tensor | None, scheme: Scheme) -> Quantized:
        """Pack codes, uint8 [..., outputs, inputs].

        Raises:
            ValueError: scales or zeros do not fit the codes and the scheme.
        """
        inputs = codes.shape[-1]
        wanted = (*codes.shape[:-1], scheme.groups(inputs))
        if tuple(scales.shape) != wanted or (zeros is not None and zeros.shape != scales.shape):
            raise ValueError(f"scales and zeros must be {wanted}, not {tuple(scales.shape)}")
        if (zeros is None) != scheme.symmetric:
            raise ValueError("zeros belong to an asymmetric scheme, and only to one")
        packed = _pack(codes) if scheme.bits == 4 else codes
        return cls(scheme, inputs, packed, scales, zeros)

    @classmethod
    def blank(cls, scheme: Scheme, shape: Sequence[int], like: Tensor) -> Quantized:
        """Uninitialised, of the shape [..., outputs, inputs]; device and dtype as `like`."""
        *outer, inputs = shape
        scales = like.new_empty(*outer, scheme.groups(inputs))
        codes = torch.empty((*outer, scheme.width(inputs)), dtype=torch.uint8, device=scales.device)
        zeros = None if scheme.symmetric else torch.empty_like(scales, dtype=torch.uint8)
        return cls(scheme, inputs, codes, scales, zeros)

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs) of one matrix."""
        return self.codes.shape[-2], self.inputs

    @property
    def key(self) -> tuple[object, ...]:
        """A key that matrices must share to be stacked."""
        return (*self.shape, self.scheme.bits, self.scheme.group, self.scheme.symmetric)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by name: codes, scales and, unless symmetric, zeros."""
        stored = {"codes": self.codes, "scales": self.scales}
        return stored if self.zeros is None else stored | {"zeros": self.zeros}

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zeros."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def unpacked(self) -> Tensor:
        """uint8 [..., outputs, inputs]: one code per byte."""
        if self.scheme.bits != 4:
            return self.codes
        return torch.stack([self.codes & 15, self.codes >> 4], -1).flatten(-2)[..., : self.inputs]

    def dequantise(self, dtype: torch.dtype | None = None) -> Tensor:
        """The matrix, [..., outputs, inputs]: multiplied in fp32, then rounded to `dtype`.

        Args:
            dtype: Default: the scales'.
        """
        zero = self.scheme.levels // 2 if self.zeros is None else self.spread(self.zeros).float()
        values = (self.unpacked().float() - zero) * self.spread(self.scales.float())
        return values.to(self.scales.dtype if dtype is None else dtype)

    def spread(self, values: Tensor) -> Tensor:
        """[..., outputs, groups] to [..., outputs, inputs]."""
        if not self.scheme.group:
            return values.expand(*values.shape[:-1], self.inputs)
        return values.repeat_interleave(self.scheme.group, -1)[..., : self.inputs]

    def to(self, like: Tensor) -> Quantized:
        """On the device of `like`, scales in its dtype."""
        moved = {name: tensor.to(like.device) for name, tensor in self.tensors.items()}
        return self.holding(moved | {"scales": self.scales.to(like)})

    def holding(self, tensors: dict[str, Tensor]) -> Quantized:
        """The same matrix or stack with other tensors, named as in `tensors`."""
        codes, scales = tensors["codes"], tensors["scales"]
        return replace(self, codes=codes, scales=scales, zeros=tensors.get("zeros"))

    def __getitem__(self, index: int | slice | tuple[int | slice, ...] | None) -> Quantized:
        """Matrices of a stack, or rows: views. With None, a stack of one."""
        return self.holding({name: tensor[index] for name, tensor in self.tensors.items()})


def stack(matrices: Sequence[Quantized]) -> Quantized:
    """Matrices with the same `key`, one after the other along a new first dimension."""
    return _joined(matrices, torch.stack, 0)


def concatenate(matrices: Sequence[Quantized]) -> Quantized:
    """Matrices of the same inputs and scheme, or stacks of them, one below the other."""
    return _joined(matrices, torch.cat, -2)


def _joined(
    matrices: Sequence[Quantized], join: Callable[[list[Tensor], int], Tensor], dim: int
) -> Quantized:
    names = matrices[0].tensors
    return matrices[0].holding(
        {name: join([one.tensors[name] for one in matrices], dim) for name in names}
    )


def _pack(codes: Tensor) -> Tensor:
    even, odd = codes[..., 0::2], codes[..., 1::2]
    if odd.shape[-1] < even.shape[-1]:
        odd = torch.nn.functional.pad(odd, (0, 1))
    return even | (odd << 4)
