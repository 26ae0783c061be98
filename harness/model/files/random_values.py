"""Values for a model that has only shapes: drawn on the device they stay on, tensor by tensor.

What costs memory and time of a model does not depend on its weights' values, so a full-size model
is measured without its checkpoint: built on the meta device, edited there, then given values.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harness.model.layers import packed
from harness.model.layers.packed import Packed
from harness.model.view import MoEModel

STD = 0.02
"""Standard deviation of dense weights: the one that transformers initialises with."""
SMALL = 2**20
"""Bytes below which a tensor is not worth lending or taking away."""
_SPREAD = 4.6
"""Standard deviation of uniform 4-bit codes, in steps of the grid."""
_ALIGNED = 128
"""Elements; matrix products on badly aligned weights take other paths."""


def materialise(
    model: MoEModel,
    device: torch.device | str,
    *,
    seed: int,
    dtype: torch.dtype | None = None,
    lender: MoEModel | None = None,
) -> None:
    """Give every tensor of `model` that is on the meta device random values on `device`.

    Dense weights are normal with mean 0 and standard deviation `STD`, norms 1 and biases 0; packed
    weights have uniform codes, zeros around the middle of the grid, and scales that make their
    spread the dense weights'. Tensors are drawn where they stay, one at a time, so nothing but the
    model itself takes memory. What is real already, as the rotary embedding's frequencies are, is
    moved as it is. Tied weights stay tied.

    Args:
        model: With all edits applied; changed in place.
        device: Where to.
        seed: Of the values. They depend on the kind of device as well.
        dtype: Of the floating-point weights; None for the model's own.
        lender: A model on `device` whose memory large dense weights may lie in, with its values:
            two models that do not fit beside each other then do. Nothing may write to either.
    """
    drawn = _Drawn(torch.device(device), seed, dtype, _Loans(lender))
    for module in _modules(model):
        for part in module.modules():
            drawn.fill(part)
        module.to(device)
    model.frame.tie_weights()
    model.settle()
    for module in _modules(model):
        packed.settle(module)
    model.refresh()


def release(model: MoEModel) -> None:
    """Put all but small tensors back on the meta device, which frees their memory."""
    replaced: dict[int, tuple[Tensor, Tensor]] = {}  # by id; the old one kept, or its id is reused
    for module in _modules(model):
        for part in module.modules():
            for held in (part._parameters, part._buffers):
                for name, tensor in held.items():
                    if tensor is None or tensor.nbytes < SMALL:
                        continue
                    if id(tensor) not in replaced:
                        replaced[id(tensor)] = tensor, _as(tensor, tensor.detach().to("meta"))
                    held[name] = replaced[id(tensor)][1]  # type: ignore[assignment]
    model.refresh()
    replaced.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def stored_bytes(model: MoEModel) -> int:
    """Bytes that the tensors of the model's artifact would take in its files, headers apart."""
    from harness.model.files.tensors import state

    return sum(tensor.nbytes for tensor in state(model).values())


def _modules(model: MoEModel) -> Iterator[nn.Module]:
    yield model.frame
    yield from (model.layer(index) for index in model.numbers)


def _as(old: Tensor, new: Tensor) -> Tensor:
    """The new tensor as what the old one was."""
    return nn.Parameter(new, requires_grad=False) if isinstance(old, nn.Parameter) else new


class _Loans:
    """Memory of a model's large dense weights, lent out piece by piece.

    Args:
        lender: None lends nothing.
    """

    def __init__(self, lender: MoEModel | None) -> None:
        modules = _modules(lender) if lender is not None else ()
        weights = {id(p): p.detach() for module in modules for p in module.parameters()}
        self._left = [w.flatten() for w in weights.values() if w.nbytes >= SMALL]

    def take(self, shape: torch.Size, dtype: torch.dtype) -> Tensor | None:
        """A tensor that nothing else was lent; None where none is left that is large enough."""
        size = shape.numel()
        if size * dtype.itemsize < SMALL:
            return None
        for place, left in enumerate(self._left):
            if left.dtype == dtype and left.numel() >= size:
                used = -(-size // _ALIGNED) * _ALIGNED
                self._left[place] = left[used:]
                return left[:size].view(shape)
        return None


class _Drawn:
    """The tensors drawn so far: one that several modules share is drawn once."""

    def __init__(
        self, device: torch.device, seed: int, dtype: torch.dtype | None, loans: _Loans
    ) -> None:
        self.device = device
        self.dtype = dtype
        self.generator = torch.Generator(device).manual_seed(seed)
        self._loans = loans
        self._found: dict[int, tuple[Tensor, Tensor]] = {}  # the old one kept, or its id is reused

    def fill(self, module: nn.Module) -> None:
        """Replace a module's own parameters and buffers that are on the meta device."""
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None and tensor.is_meta:
                    if id(tensor) not in self._found:
                        self._found[id(tensor)] = tensor, self._like(module, name, tensor)
                    held[name] = self._found[id(tensor)][1]  # type: ignore[assignment]

    def _like(self, module: nn.Module, name: str, tensor: Tensor) -> Tensor:
        dtype = self.dtype if self.dtype and tensor.is_floating_point() else tensor.dtype
        if isinstance(module, Packed):
            new = torch.empty(tensor.shape, dtype=dtype, device=self.device)
            self._grid(module, name, new)
            return new
        lent = self._loans.take(tensor.shape, dtype)
        if lent is not None:
            return _as(tensor, lent)
        new = torch.empty(tensor.shape, dtype=dtype, device=self.device)
        if new.dim() > 1:
            new.normal_(0, STD, generator=self.generator)
        else:
            new.fill_(0 if name == "bias" else 1)
        return _as(tensor, new)

    def _grid(self, module: Packed, name: str, new: Tensor) -> None:
        """Codes, scales or zeros of packed weights."""
        levels = module.scheme.levels
        if name == "codes":
            # Bytes: two codes of 4 bits, or one of 8.
            new.random_(0, 256, generator=self.generator)
        elif name == "zeros":
            new.random_(levels // 2 - 1, levels // 2 + 2, generator=self.generator)
        else:
            step = STD / _SPREAD * 16 / levels
            new.uniform_(0.5 * step, 1.5 * step, generator=self.generator)
