"""Matrices of a block side by side: small ones are worked on together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from harness.model.editing.matrices import Matrix
from harness.model.quantized.scheme import Quantized

Values = TypeVar("Values", Tensor, Quantized)
Read = Callable[[str], Tensor]
"""Gives a tensor by the name of its matrix."""


@dataclass(frozen=True)
class Stack:
    """Matrices side by side: those that share a moment one below the other, as one matrix.

    Attributes:
        members: Groups of matrices that share a moment, such as an expert's gate and up; all groups
            have equal shapes.
    """

    members: list[list[Matrix]]

    def weight(self, read: Read) -> Tensor:
        """Return the weights that `read` gives, [stack, outputs, inputs]."""
        return torch.stack([torch.cat([read(m.name) for m in group]) for group in self.members])

    def moment(self, read: Read) -> Tensor:
        """Return the moments that `read` gives, [stack, inputs, inputs]."""
        return torch.stack([read(group[0].name) for group in self.members])

    def apart(self, stacked: Values) -> Iterator[tuple[str, Values]]:
        """Yield the matrices of the stack, by name: views of `stacked` [stack, outputs, inputs]."""
        for place, group in enumerate(self.members):
            row = 0
            for matrix in group:
                yield matrix.name, stacked[place, row : row + matrix.shape[0]]
                row += matrix.shape[0]


def sharing(matrices: Iterable[Matrix], moments: Mapping[str, Tensor]) -> list[list[Matrix]]:
    """Return the matrices in groups that share one tensor of `moments`, which has them by name."""
    groups: dict[int, list[Matrix]] = {}
    for matrix in matrices:
        groups.setdefault(id(moments[matrix.name]), []).append(matrix)
    return list(groups.values())


def stacks(
    matrices: Iterable[Matrix], moments: Mapping[str, Tensor], *, most: int
) -> Iterator[Stack]:
    """Yield the matrices in stacks of equal shapes.

    Args:
        matrices: Matrices of a block.
        moments: Sum of x x^T of each by name; matrices that read the same tokens share one tensor.
        most: Numbers in the weights and moments of one stack; those of a single moment and its
            matrices may be more.
    """
    alike: dict[tuple[int, int], list[list[Matrix]]] = {}
    for group in sharing(matrices, moments):
        outputs, inputs = sum(matrix.shape[0] for matrix in group), group[0].shape[1]
        alike.setdefault((outputs, inputs), []).append(group)
    for (outputs, inputs), groups in alike.items():
        size = max(1, most // ((outputs + inputs) * inputs))
        for start in range(0, len(groups), size):
            yield Stack(groups[start : start + size])
