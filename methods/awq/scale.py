"""AWQ's scales: where they are moved to."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from harness.model.editing.matrices import Matrix
from harness.model.view import Block


class Scales:
    """What the columns of readers are multiplied by, and the outputs of producers divided by.

    Args:
        block: Gives the weights.
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
        """All weights that change."""
        return tuple(dict.fromkeys((*self._rows, *self._columns)))

    def columns(self, name: str) -> Tensor:
        """What the columns of a matrix are multiplied by, [inputs] or a single 1."""
        return self._columns.get(name, self._one)

    def moment(self, name: str, moment: Tensor) -> Tensor:
        """The moments of a matrix's inputs as they are once scaled, fp32 [inputs, inputs]."""
        inverse = (1 / self.columns(name)).expand(len(moment))
        return moment.float() * inverse * inverse[:, None]

    def scaled(self, name: str) -> Tensor:
        """A weight with its scales, fp32, in its own shape."""
        weight = self.block.weight(name).float()
        return weight * self.columns(name) / self._rows.get(name, self._one)

    def plain(self, name: str, weight: Tensor) -> Tensor:
        """A scaled weight, perhaps rounded since, as it acts where nothing is scaled."""
        return weight * self._rows.get(name, self._one) / self.columns(name)
