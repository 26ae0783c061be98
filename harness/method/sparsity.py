"""Options and masks of the methods that zero single weights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.errors import Refused
from harness.method.targets import TargetsOrRouter, targeted
from harness.model.editing.matrices import Part

if TYPE_CHECKING:
    from torch import Tensor

    from harness.model.view import MoEModel


class Sparsity(BaseModel):
    """A fraction of the weights, or n of every m consecutive ones, in the matrices named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sparsity: float | None = Field(default=None, gt=0, lt=1)
    """Fraction of the weights that is zeroed."""
    pattern: str | None = None
    """Pattern "n:m": n zeros in every m consecutive weights of a row ("2:4", "4:8")."""
    targets: TargetsOrRouter | None = None
    """Parts of the block that are pruned; by default routed and shared experts, or the MLP of a
    dense model."""
    prune_router: bool = False
    """Compatibility: lets `targets` name the router. The authors' scripts prune Mixtral's router
    by accident (its name escapes their filter); for matching published rows only."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.sparsity is None) == (self.pattern is None):
            raise ValueError("give either sparsity or pattern")
        if self.targets and "router" in self.targets and not self.prune_router:
            raise ValueError("targets names the router; set prune_router = true to really prune it")
        if self.group and not 0 < self.group[0] < self.group[1]:
            raise ValueError(f"pattern {self.pattern!r} needs 0 < n < m, as in 2:4")
        return self

    @property
    def group(self) -> tuple[int, int] | None:
        """Numbers (n, m) of the pattern; None without one."""
        if self.pattern is None:
            return None
        match = re.fullmatch(r"(\d+):(\d+)", self.pattern)
        if match is None:
            raise ValueError(f"pattern {self.pattern!r} is not of the form n:m, as in 2:4")
        return int(match[1]), int(match[2])

    def parts(self, model: MoEModel) -> tuple[Part, ...]:
        """Return the parts to prune in this model.

        Raises:
            Refused: the model has none of a part that is named, or the pattern does not divide
                the inputs of a matrix.
        """
        chosen = targeted(model, self.targets, "to prune")
        self._check_division(model, chosen)
        return chosen

    def _check_division(self, model: MoEModel, parts: tuple[Part, ...]) -> None:
        if self.group is None:
            return
        for block in model.blocks:
            for matrix in block.matrices(*parts):
                if matrix.shape[1] % self.group[1]:
                    raise Refused(
                        f"pattern {self.pattern!r} does not divide the {matrix.shape[1]} inputs "
                        f"of {matrix.name} in block {block.index}."
                    )

    def in_groups(self, scores: Tensor) -> Tensor:
        """Mark the weights that the pattern zeroes: the n lowest scores of every m.

        Args:
            scores: [outputs, inputs]; inputs divide by m.

        Returns:
            bool, same shape, True = zeroed.
        """
        zeros, group = self.group or (0, 1)
        grouped = scores.reshape(len(scores), -1, group)  # [outputs, groups, m]
        return lowest(grouped, zeros).flatten(1)


def lowest(scores: Tensor, count: int) -> Tensor:
    """Mark the `count` lowest scores of the last dimension, bool; of a tie the first."""
    order = scores.sort(dim=-1, stable=True).indices[..., :count]
    return scores.new_zeros(scores.shape).bool().scatter(-1, order, True)


def below(scores: Tensor, fraction: float) -> Tensor:
    """Mark, over the whole tensor, the scores up to the int(size x fraction)-th, bool.

    Counted from 0 and included, as in the code of SparseGPT and Wanda: one more than the fraction,
    and every tie with it.
    """
    place = int(scores.numel() * fraction)
    return scores <= scores.flatten().sort().values[place]
