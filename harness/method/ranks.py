"""Ranks of factored matrices: a count, or the fraction of parameters removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.errors import Refused
from harness.method.budgets import Budget
from harness.method.remainders import apportion
from harness.method.targets import Targets

if TYPE_CHECKING:
    from harness.model.editing.matrices import Matrix
    from harness.model.view import MoEModel


class RankBudget(Budget):
    """Average rank per matrix, or the fraction of the matrices' parameters removed.

    Factors of rank r hold r (m + n) numbers in place of the m n of a matrix. Above m n / (m + n),
    a matrix's break-even rank, they are larger than the matrix; that is refused unless `larger`.
    """

    counted: ClassVar[str] = "rank"

    rank: int | None = Field(default=None, ge=1)
    """Rank of every matrix, the average where ranks differ."""
    multiple: int = Field(default=1, ge=1)
    """Number that every rank is a multiple of (hardware likes 8 or 16). What is cut off one rank
    goes to another, so that ranks of a block differ by `multiple` where they would be equal."""
    larger: bool = False
    """Allow ranks whose factors hold more than the matrix, up to its full rank."""

    def even(self, matrices: Sequence[Matrix], *, where: str) -> dict[str, int]:
        """Return the rank of every matrix, by name; as equal as `multiple` lets them be.

        Args:
            matrices: Matrices of a block; those of one shape, up to transposition, share alike.
            where: Name of the block, for the message.

        Raises:
            Refused: as `spread`.
        """
        alike: dict[tuple[int, ...], list[Matrix]] = {}
        for matrix in matrices:
            alike.setdefault(tuple(sorted(matrix.shape)), []).append(matrix)
        ranks: dict[str, int] = {}
        for group in alike.values():
            shares = self.spread(group, [1.0] * len(group), where=where)
            ranks |= {matrix.name: rank for matrix, rank in zip(group, shares, strict=True)}
        return {matrix.name: ranks[matrix.name] for matrix in matrices}

    def spread(
        self, matrices: Sequence[Matrix], weights: Sequence[float], *, where: str
    ) -> list[int]:
        """Return ranks in proportion to `weights` that add up to the budget of all the matrices.

        Args:
            matrices: Matrices of one shape, up to transposition.
            weights: Positive; one per matrix.
            where: Name of the block, for the message.

        Raises:
            Refused: as `check`, or `multiple` is more than a matrix's share.
        """
        self.check(matrices, where=where)
        most = self._most(matrices[0]) // self.multiple
        total = self._average(matrices[0]) * len(matrices) // self.multiple
        if min(most, total // len(matrices)) < 1:
            raise Refused(
                f"{self._option} with multiple = {self.multiple} leaves no rank to "
                f"{matrices[0].name} in {where}; lower multiple, or remove less."
            )
        shares = apportion(min(total, most * len(matrices)), weights, most)
        return [share * self.multiple for share in shares]

    def check(self, matrices: Sequence[Matrix], *, where: str) -> None:
        """Refuse a budget that does not fit every matrix.

        Raises:
            Refused: a rank below 1 or above the largest allowed; a matrix that is factors already.
        """
        for matrix in matrices:
            self._check(matrix, where)

    def _check(self, matrix: Matrix, where: str) -> None:
        rows, columns = matrix.shape
        subject = f"{self._option}: {matrix.name} in {where}, {rows} x {columns},"
        # "attention.v" is a matrix; "attention.v.v", "experts.5.gate.v" are factors.
        if matrix.name.count(".") > (1 if matrix.expert is None else 2):
            raise Refused(f"{subject} is a factor already; decompose a matrix once.")
        rank = self._average(matrix)
        if rank < 1:
            raise Refused(f"{subject} would be left with rank {rank}; remove less.")
        if rank > min(rows, columns):
            raise Refused(f"{subject} has only rank {min(rows, columns)}; lower the rank.")
        if rank > self._most(matrix):
            raise Refused(
                f"{subject} is smaller than its factors of rank {rank}; lower the rank to "
                f"{self._most(matrix)} or less, or set larger = true."
            )

    def _average(self, matrix: Matrix) -> int:
        if self.rank is not None:
            return self.rank
        rows, columns = matrix.shape
        return self._rounded(rows * columns * (1 - (self.ratio or 0.0)) / (rows + columns))

    def _rounded(self, rank: float) -> int:
        return round(rank)

    def _most(self, matrix: Matrix) -> int:
        rows, columns = matrix.shape
        return min(rows, columns) if self.larger else rows * columns // (rows + columns)


class TargetedRanks(RankBudget):
    """A rank budget for the matrices of some parts of every block."""

    targets: Targets | None = None
    """Parts of the block whose matrices are factored; by default the experts, or the MLP of a
    dense model."""

    def plan(self, model: MoEModel) -> dict[int, dict[str, int]]:
        """Return the rank of every targeted matrix, by block and name; only of blocks with any.

        Raises:
            Refused: no block has any, or as `spread`.
        """
        parts = sorted(self.targets or {"experts" if model.experts else "dense"})
        plan: dict[int, dict[str, int]] = {}
        for block in model.blocks:
            matrices = [matrix for matrix in block.matrices() if matrix.part in parts]
            if matrices:
                plan[block.index] = self.even(matrices, where=f"block {block.index}")
        if not plan:
            raise Refused(f"{model.ref} has no matrices in {', '.join(parts)}; set other targets.")
        return plan
