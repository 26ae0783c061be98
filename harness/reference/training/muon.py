"""Muon: momentum with orthogonalised updates, for the matrices inside the blocks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrix, roughly, by Newton-Schulz; leading dimensions are a batch."""
    a, b, c = _QUINTIC
    x: Tensor = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result


class Muon:
    """Steps matrices along their orthogonalised momentum (Nesterov), with weight decay."""

    def __init__(
        self, parameters: Iterable[Parameter], momentum: float = 0.95, decay: float = 0.1
    ) -> None:
        self.parameters = list(parameters)
        self.momentum, self.decay = momentum, decay
        self._buffers = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update with learning rate `rate`."""
        for parameter, buffer in zip(self.parameters, self._buffers, strict=True):
            if parameter.grad is None:
                continue
            buffer.mul_(self.momentum).add_(parameter.grad)
            update = orthogonal(parameter.grad + self.momentum * buffer)
            scale = max(1.0, parameter.size(-2) / parameter.size(-1)) ** 0.5
            parameter.mul_(1 - self.decay * rate).add_(update, alpha=-rate * scale)
