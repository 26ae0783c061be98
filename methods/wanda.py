"""Wanda: weights pruned by magnitude times input norm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from harness.calibration.statistics import InputNorms
from harness.calibration.walk import Calibration
from harness.edits import Edit, SetWeights
from harness.errors import Refused
from harness.method import Method, Note
from harness.model.matrices import PARTS, Part
from harness.model.view import Block, MoEModel

Target = Literal["experts", "shared", "dense", "attention", "router"]


class Wanda(Method):
    """Wanda (Sun et al. 2024, arXiv 2306.11695) over the matrices of every block.

    |W_ij| * ||X_j||_2, X the inputs the matrix multiplied, for an expert those of the tokens
    routed to it. Unstructured: in every output row the int(inputs x sparsity) smallest are zeroed.
    n:m: the n smallest of every m consecutive inputs. A block is pruned from the statistics of its
    unpruned self; later blocks see it pruned.

    Deviations: an expert (or input feature) that no calibration token reached has no norm; there
    the magnitude alone decides. Attention is left alone unless targeted; the authors' code prunes
    every linear layer, on Mixtral even the router.
    """

    name: ClassVar[str] = "wanda"
    reference: ClassVar[str] = "Sun et al. 2024, arXiv 2306.11695: smallest |W_ij| ||X_j||_2"

    sparsity: float | None = Field(default=None, gt=0, lt=1)
    """Fraction of each row that is zeroed."""
    pattern: str | None = Field(default=None)
    """"n:m": n zeros in every m consecutive weights ("2:4", "4:8")."""
    targets: frozenset[Target] = frozenset({"experts", "shared"})
    """Parts of the block that are pruned."""
    prune_router: bool = False
    """Compatibility: lets `targets` name the router. The authors' scripts prune Mixtral's router
    by accident (its name escapes their filter); for matching published rows only."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.sparsity is None) == (self.pattern is None):
            raise ValueError("give either sparsity or pattern")
        if self.pattern is not None:
            zeros, group = _numbers(self.pattern)
            if not 0 < zeros < group:
                raise ValueError(f"pattern {self.pattern!r} needs 0 < n < m, as in 2:4")
        if not self.targets:
            raise ValueError("targets is empty; name experts, shared, dense or attention")
        if "router" in self.targets and not self.prune_router:
            raise ValueError("targets names the router; set prune_router = true to really prune it")
        return self

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one SetWeights per block that has a target."""
        parts: tuple[Part, ...] = tuple(part for part in PARTS if part in self.targets)
        for block in model.blocks:
            self._check(block, parts)
        for block in calibration.walk(model):
            chosen = block.matrices(*parts)
            if not chosen:
                continue
            squares = block.collect(InputNorms(*parts)).squares
            masked = {
                matrix.name: self._prune(block.weight(matrix), squares[matrix.name])
                for matrix in chosen
            }
            yield SetWeights.of(block.index, masked)

    def _check(self, block: Block, parts: tuple[Part, ...]) -> None:
        if self.pattern is None:
            return
        _, group = _numbers(self.pattern)
        for matrix in block.matrices(*parts):
            if matrix.shape[1] % group:
                raise Refused(
                    f"pattern {self.pattern!r} does not divide the {matrix.shape[1]} inputs of "
                    f"{matrix.name} in block {block.index}."
                )

    def _prune(self, weight: Tensor, squares: Tensor) -> Tensor:
        """The weight [outputs, inputs] with its smallest scores zeroed."""
        norms = squares.sqrt().float().to(weight.device)  # [inputs]
        if not bool(squares.any()):
            norms = torch.ones_like(norms)
        scores = weight.float().abs() * norms
        if self.pattern is None:
            count = int(weight.shape[1] * (self.sparsity or 0.0))
            smallest = scores.sort(dim=1, stable=True).indices[:, :count]
            return weight.scatter(1, smallest, 0.0)
        zeros, group = _numbers(self.pattern)
        grouped = scores.view(len(weight), -1, group)  # [outputs, groups, m]
        smallest = grouped.topk(zeros, dim=-1, largest=False).indices
        return weight.reshape_as(grouped).scatter(-1, smallest, 0.0).reshape_as(weight)


def _numbers(pattern: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", pattern)
    if match is None:
        raise ValueError(f"pattern {pattern!r} is not of the form n:m, as in 2:4")
    return int(match[1]), int(match[2])
