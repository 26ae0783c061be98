"""AWQ's scales, moved from producers into the matrices that read them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from harness.method import Block, Matrix


class Scales:
    """Scales of a block: readers' columns are multiplied by them, producers' outputs divided.

    Args:
        block: The block, which gives the weights.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self._one = torch.ones((), device=block.model.device)
        self._columns: dict[str, Tensor] = {}  # by reader, fp32 [inputs]
        self._rows: dict[str, Tensor] = {}  # by producer, fp32 [outputs] or [outputs, 1]

    def move(self, scale: Tensor, producer: str, readers: Iterable[Matrix]) -> None:
        """Divide a producer's outputs by `scale`, fp32 [channels], and multiply its readers by it.

        A norm stores its share in the model's dtype. What the readers are multiplied by follows
        from what is stored, so that rounding it costs nothing.
        """
        weight = self.block.weight(producer)
        if weight.dim() == 1:
            exact = weight.float()
            stored = (exact / scale).to(weight.dtype).float()
            scale = (exact / stored).where((exact != 0) & (stored != 0), 1.0)
        self._rows[producer] = scale if weight.dim() == 1 else scale[:, None]
        self._columns |= dict.fromkeys((reader.name for reader in readers), scale)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all weights that change."""
        return tuple(dict.fromkeys((*self._rows, *self._columns)))

    def columns(self, name: str) -> Tensor:
        """Return the scales of a matrix's columns, [inputs] or a single 1."""
        return self._columns.get(name, self._one)

    def moment(self, name: str, moment: Tensor) -> Tensor:
        """Return the moments of a matrix's inputs once these are scaled, fp32 [inputs, inputs]."""
        inverse = (1 / self.columns(name)).expand(len(moment))
        return moment.float() * inverse * inverse[:, None]

    def scaled(self, name: str) -> Tensor:
        """Return a weight with its scales, fp32, in its own shape."""
        weight = self.block.weight(name).float()
        return weight * self.columns(name) / self._rows.get(name, self._one)

    def plain(self, name: str, weight: Tensor) -> Tensor:
        """Return a scaled weight, perhaps rounded since, as it acts where nothing is scaled."""
        return weight * self._rows.get(name, self._one) / self.columns(name)
