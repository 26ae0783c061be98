"""Quantized matrices as modules: packed in memory while they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.model.quantized import int4, kernels
from harness.model.quantized.kernels.tiles import Tiles
from harness.model.quantized.scheme import Quantized

FEW_ROWS = 16
"""Up to so many rows the CPU's 4-bit kernel multiplies; above, a dequantised matrix is faster."""


class Packed(nn.Module):
    """A stack of quantized matrices, [count, outputs, inputs], packed in its buffers.

    `settle` brings it into the form in which it runs: where torch's 4-bit kernel can multiply with
    it, the kernel's own order takes the place of codes, scales and zeros. The way back is exact,
    and what is saved is always codes, scales and zeros.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None

    def __init__(self, weight: Quantized) -> None:
        super().__init__()
        self.scheme = weight.scheme
        self.count, self.outputs = weight.codes.shape[:2]
        self.inputs = weight.inputs
        self.settled = False
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scales", weight.scales)
        self.register_buffer("zeros", weight.zeros)

    @property
    def elements(self) -> int:
        """Weights of all matrices, however few bits they take."""
        return self.count * self.outputs * self.inputs

    def settle(self) -> None:
        """After loading: take the form in which it runs."""
        weight = self.quantized()
        rows = int4.block_rows() if int4.suits(weight) else None
        if self.settled or rows is None:
            return
        self.codes = int4.interleave(weight.unpacked(), rows)
        self.scales = int4.scales_and_shifts(weight)
        self.zeros = None
        self.settled = True

    def _apply(self, fn: Any, recurse: bool = True) -> Packed:
        # To another device or dtype goes the plain form: the kernel's is this processor's.
        if self.settled:
            weight = self.quantized()
            self.codes, self.scales, self.zeros = weight.codes, weight.scales, weight.zeros
            self.settled = False
        applied: Packed = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return applied

    def quantized(self, position: int | None = None) -> Quantized:
        """The stack as a value, whatever form it runs in, or one matrix of it."""
        if not self.settled:
            stack = Quantized(self.scheme, self.inputs, self.codes, self.scales, self.zeros)
            return stack if position is None else stack[position]
        which = slice(None) if position is None else position
        codes = int4.transposed(self.codes[which], int4.block_rows() or 0).mT
        # [count, outputs, groups] each; of one matrix without the count
        scales, shifts = self.scales[which].movedim(-3, -2).unbind(-1)
        zeros = None if self.scheme.symmetric else int4.zeros_of(scales, shifts)
        return Quantized.of(codes, scales.contiguous(), zeros, self.scheme)

    def dequantise(self, position: int, dtype: torch.dtype | None = None) -> Tensor:
        """One matrix, [outputs, inputs]; not always contiguous."""
        if not self.settled:
            return self.quantized()[position].dequantise(dtype)
        codes = int4.transposed(self.codes[position], int4.block_rows() or 0)
        scales, shifts = self.scales[position].float().unbind(-1)  # [groups, outputs] each
        offsets = (int4.MIDDLE - int4.zeros_of(scales, shifts).float()) * scales
        values = codes.view(len(scales), -1, self.outputs).float() - int4.MIDDLE
        values = torch.addcmul(offsets.unsqueeze(1), values, scales.unsqueeze(1))
        return values.flatten(0, 1).mT.to(self.scales.dtype if dtype is None else dtype)

    def nonzero(self) -> int:
        """Weights that are not zero."""
        count = 0
        for position in range(self.count):
            count += int(torch.count_nonzero(self.dequantise(position)))
        return count

    def linear(self, x: Tensor, position: int = 0) -> Tensor:
        """Product with one of the matrices, x W^T, [..., outputs]; x is [..., inputs]."""
        rows = x.reshape(-1, self.inputs)
        if kernels.runs_on(x):
            from harness.model.quantized.kernels.launch import grouped_rows

            weight = self.quantized()[position : position + 1]
            out = grouped_rows(rows, Tiles.single(len(rows)), weight)
        elif self.settled and x.dtype == torch.bfloat16 and len(rows) <= FEW_ROWS:
            group = self.scheme.group
            out = int4.linear(rows, self.codes[position], self.scales[position], group)
        else:
            dtype = product_dtype(x)
            out = F.linear(rows.to(dtype), self.dequantise(position, dtype)).to(x.dtype)
        return out.view(*x.shape[:-1], self.outputs)

    def grouped(self, x: Tensor, offsets: Tensor) -> Tensor:
        """x_r W_e^T for every row r, e its matrix; arguments as in `grouped_linear`."""
        if x.is_meta:
            return x.new_empty(len(x), self.outputs)
        ends = offsets.tolist()
        parts = [
            self.linear(x[start:end], position)
            for position, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
            if end > start
        ]
        return torch.cat(parts) if parts else x.new_empty(0, self.outputs)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        for name, tensor in self.quantized().tensors.items():
            destination[prefix + name] = tensor if keep_vars else tensor.detach()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        if self.settled:
            raise RuntimeError("packed weights are loaded before they settle")
        super()._load_from_state_dict(state_dict, prefix, *rest)


def product_dtype(x: Tensor) -> torch.dtype:
    """In which to multiply `x`: processors without bfloat16 are several times faster in fp32."""
    native = x.device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return x.dtype if native or x.dtype != torch.bfloat16 else torch.float32


def settle(module: nn.Module) -> None:
    """Bring everything packed under `module` into the form in which it runs."""
    for part in module.modules():
        if isinstance(part, Packed):
            part.settle()


def weights(module: nn.Module) -> int:
    """Parameters under `module`, what is packed counted as the weights it stands for."""
    packed = (part.elements for part in module.modules() if isinstance(part, Packed))
    return sum(parameter.numel() for parameter in module.parameters()) + sum(packed)


class PackedLinear(nn.Module):
    """Takes an `nn.Linear`'s place.

    Args:
        weight: One matrix.
        bias: [outputs], or None.
    """

    bias: nn.Parameter | None

    def __init__(self, weight: Quantized, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight = Packed(weight[None])
        held = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.register_parameter("bias", held)

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Linear`: x W^T + bias."""
        if x.is_meta:  # counted there, and nothing else
            return F.linear(x, x.new_empty(self.out_features, self.in_features), self.bias)
        out = self.weight.linear(x)
        return out if self.bias is None else out + self.bias
