"""How much to remove: a count, or `ratio` = the fraction removed, of the method's own unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.errors import Refused


class _Budget(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    ratio: float | None = Field(default=None, gt=0, lt=1)
    """Fraction removed, of the method's own unit; rounded to the nearest count."""

    def _removed_by_ratio(self, total: int, unit: str) -> int:
        ratio = self.ratio or 0.0
        removed = round(ratio * total)
        if removed == 0:
            raise Refused(f"ratio {ratio} of {total} {unit} removes none; raise it.")
        return removed


class KeepBudget(_Budget):
    """Experts kept per layer, or the fraction removed."""

    keep: int | None = Field(default=None, ge=1)
    """Experts kept in every MoE layer."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.keep is None) == (self.ratio is None):
            raise ValueError("give either keep or ratio")
        return self

    def kept(self, experts: int, top_k: int, *, where: str) -> int:
        """How many of a layer's experts stay.

        Raises:
            Refused: more than there are, or fewer than top-k.
        """
        keep = self.keep or experts - self._removed_by_ratio(experts, "experts")
        option = f"keep = {self.keep}" if self.keep else f"ratio = {self.ratio}"
        if keep > experts:
            raise Refused(f"{option}: {where} has only {experts} experts.")
        if keep < top_k:
            raise Refused(
                f"{option}: {where} chooses {top_k} experts per token; keep at least {top_k}."
            )
        return keep


class DropBudget(_Budget):
    """Units dropped, or the fraction removed."""

    drop: int | None = Field(default=None, ge=1)
    """How many to drop."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.drop is None) == (self.ratio is None):
            raise ValueError("give either drop or ratio")
        return self

    def dropped(self, total: int, unit: str, *, most: int | None = None) -> int:
        """How many of `total` units go.

        Args:
            total: Units there are.
            unit: Their name, for the message.
            most: The largest number that may go; all of them by default.

        Raises:
            Refused: more than there are or than may go.
        """
        drop = self.drop or self._removed_by_ratio(total, unit)
        most = total if most is None else most
        if drop > most:
            option = f"drop = {self.drop}" if self.drop else f"ratio = {self.ratio}"
            raise Refused(f"{option}: of {total} {unit} at most {most} can be dropped.")
        return drop


def apportion(total: int, weights: Sequence[float], most: int) -> list[int]:
    """Whole numbers from 1 to `most` in proportion to `weights` that add up to `total`.

    What would be more than `most` or less than 1 goes to, or comes from, the others in proportion;
    then largest remainders are rounded up, the first of equal ones first.

    Args:
        total: From len(weights) to len(weights) * most.
        weights: Positive.
        most: The largest share.
    """

    def shares(scale: float) -> list[float]:
        return [min(max(weight * scale, 1.0), float(most)) for weight in weights]

    low, high = 0.0, most / min(weights)
    for _ in range(100):  # the sum grows with the scale; this is far below rounding
        middle = (low + high) / 2
        low, high = (middle, high) if sum(shares(middle)) <= total else (low, middle)
    exact = [round(share, 6) for share in shares(low)]
    whole = [math.floor(share) for share in exact]
    order = sorted(range(len(whole)), key=lambda place: (whole[place] - exact[place], place))
    for place in order[: total - sum(whole)]:
        whole[place] += 1
    return whole
