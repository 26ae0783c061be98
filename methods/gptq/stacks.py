"""Which matrices of a block GPTQ quantizes at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.model.editing.matrices import Matrix
from harness.model.quantized.scheme import Quantized
from harness.model.view import Block

MOST = 2**24
"""Numbers in the weights and Hessians of one stack; those of a single Hessian may be more."""


@dataclass(frozen=True)
class Stack:
    """Matrices side by side: those that share a Hessian one below the other, as one matrix.

    Attributes:
        members: For each Hessian the matrices that share it, such as an expert's gate and up.
    """

    members: list[list[Matrix]]

    def weight(self, block: Block) -> Tensor:
        """[stack, outputs, inputs]."""
        return torch.stack([torch.cat([block.weight(m) for m in group]) for group in self.members])

    def moment(self, moments: Mapping[str, Tensor]) -> Tensor:
        """[stack, inputs, inputs]."""
        return torch.stack([moments[group[0].name] for group in self.members])

    def apart(self, found: Quantized) -> Iterator[tuple[str, Quantized]]:
        """The matrices of the stack by name, each in memory of its own.

        A view would keep the whole stack in memory.
        """
        for place, group in enumerate(self.members):
            row = 0
            for matrix in group:
                one = found[place, row : row + matrix.shape[0]]
                yield matrix.name, one.holding({n: t.clone() for n, t in one.tensors.items()})
                row += matrix.shape[0]


def stacks(matrices: Iterable[Matrix], moments: Mapping[str, Tensor]) -> Iterator[Stack]:
    """The matrices in stacks of equal shapes, none larger than `MOST`.

    Args:
        matrices: What to quantize.
        moments: H of each by name; matrices that read the same tokens share one tensor.
    """
    sharing: dict[int, list[Matrix]] = {}
    for matrix in matrices:
        sharing.setdefault(id(moments[matrix.name]), []).append(matrix)
    alike: dict[tuple[int, int], list[list[Matrix]]] = {}
    for group in sharing.values():
        outputs, inputs = sum(matrix.shape[0] for matrix in group), group[0].shape[1]
        alike.setdefault((outputs, inputs), []).append(group)
    for (outputs, inputs), groups in alike.items():
        size = max(1, MOST // ((outputs + inputs) * inputs))
        for start in range(0, len(groups), size):
            yield Stack(groups[start : start + size])
