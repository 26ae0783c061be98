"""Budgets: a count, or `ratio` = the fraction removed, of the method's own unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.errors import Refused
from harness.method.contract import Note

if TYPE_CHECKING:
    from harness.model.view import Block, MoEModel


class Budget(BaseModel):
    """A count or a ratio, exactly one of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    counted: ClassVar[str]
    """Name of the option that is the count."""

    ratio: float | None = Field(default=None, gt=0, lt=1)
    """Fraction removed, of the method's own unit; rounded to the nearest count."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (getattr(self, self.counted) is None) == (self.ratio is None):
            raise ValueError(f"give either {self.counted} or ratio")
        return self

    @property
    def _option(self) -> str:
        """The option that was given, as in "keep = 4"; for messages."""
        name = self.counted if self.ratio is None else "ratio"
        return f"{name} = {getattr(self, name)}"

    def _removed(self, total: int) -> int:
        """Return the number that the ratio removes, of `total`; 0 where a count was given."""
        return round((self.ratio or 0.0) * total)

    def _removes_none(self, total: int, unit: str) -> Refused:
        return Refused(f"ratio {self.ratio} of {total} {unit} removes none; raise it.")


class KeepBudget(Budget):
    """Experts kept per layer, or the fraction removed.

    A group-limited router (DeepSeek-V2), whose rows make groups of equal size, keeps equally many
    experts of each group.
    """

    counted: ClassVar[str] = "keep"

    keep: int | None = Field(default=None, ge=1)
    """Experts kept in every MoE layer."""

    def plan(
        self, model: MoEModel, *, least: int | None = None, even: bool = True
    ) -> dict[int, int]:
        """Return the number of experts that every MoE layer keeps, by block.

        A layer of so few experts that the ratio removes none of them keeps them all.

        Args:
            model: The model that is to lose experts.
            least: Fewest experts that a layer may be left with; None for its top-k.
            even: True where group-limited routers are to keep equally many of each group: a ratio
                is then rounded within a group.

        Raises:
            Refused: a layer has fewer experts than it is to keep, would keep too few, or cannot
                keep equally many of each group; the ratio removes none anywhere; the model has no
                experts.
        """
        layers = model.moe_blocks()
        plan = {block.index: self._kept(block, least, block.groups, even) for block in layers}
        if self.ratio is not None and not any(len(b.experts) - plan[b.index] for b in layers):
            raise self._removes_none(max(len(block.experts) for block in layers), "experts")
        return plan

    def plan_drops(
        self, model: MoEModel, *, least: int | None = None, even: bool = True
    ) -> dict[int, int]:
        """Return the number of experts that every MoE layer loses, by block.

        Args:
            model: The model that is to lose experts.
            least: Fewest experts that a layer may keep; None for its top-k.
            even: As for `plan`.

        Raises:
            Refused: as `plan`.
        """
        kept = self.plan(model, least=least, even=even)
        return {block.index: len(block.experts) - kept[block.index] for block in model.moe_blocks()}

    def _kept(
        self, block: Block, least: int | None, groups: Sequence[Sequence[int]], even: bool
    ) -> int:
        experts, where = len(block.experts), f"block {block.index}"
        parts = len(groups) if even else 1
        gone = self._removed(experts // parts) * parts
        if self.keep is None and not gone:
            return experts
        keep = self.keep or experts - gone
        if keep > experts:
            raise Refused(f"{self._option}: {where} has only {experts} experts.")
        if parts > 1 and keep < experts:
            self._refuse_uneven(block, keep, groups)
        if least is None and keep < block.top_k:
            raise Refused(
                f"{self._option}: {where} chooses {block.top_k} experts per token; "
                f"keep at least {block.top_k}."
            )
        if least is not None and keep < least:
            raise Refused(
                f"{self._option}: {where} would keep {keep} experts; keep {least} or more."
            )
        return keep

    def told(self, model: MoEModel) -> Iterator[Note]:
        """Yield a note of the groups of which equally many experts stay, where there are any."""
        groups = {b.index: b.groups for b in model.moe_blocks() if b.grouping is not None}
        if groups:
            yield Note(name="keep.groups", data=groups)

    def fewest(self, block: Block) -> int:
        """Return the fewest experts that give every token its top-k, equally many of each group."""
        limit = block.grouping
        if limit is None:
            return block.top_k
        return -(-block.top_k // limit.chosen) * limit.groups

    def _refuse_uneven(self, block: Block, keep: int, groups: Sequence[Sequence[int]]) -> None:
        """Refuse what does not leave equally many experts of every group, enough for top-k."""
        limit, where = block.grouping, f"block {block.index}"
        if limit is None:
            return
        if len({expert for group in groups for expert in group}) < sum(map(len, groups)):
            raise Refused(
                f"{where} has a group-limited router and experts merged across its groups, which "
                "cannot lose equally many; prune before merging."
            )
        most = min(map(len, groups))
        fewest = self.fewest(block) // limit.groups
        if keep % limit.groups or not fewest <= keep // limit.groups <= most:
            legal = [each * limit.groups for each in range(fewest, most + 1)]
            near = sorted(sorted(legal, key=lambda count: abs(count - keep))[:2])
            raise Refused(
                f"{self._option}: {where} would keep {keep} experts, and its router has "
                f"{limit.groups} groups, {limit.chosen} of which give a token its {block.top_k} "
                f"experts: equally many of each group stay; set keep = "
                f"{' or keep = '.join(map(str, near))}."
            )


class DropBudget(Budget):
    """Units dropped, or the fraction removed."""

    counted: ClassVar[str] = "drop"

    drop: int | None = Field(default=None, ge=1)
    """Number of units that are dropped."""

    def dropped(self, total: int, unit: str, *, most: int | None = None) -> int:
        """Return the number of units that go, of `total`.

        Args:
            total: Number of units there are.
            unit: Name of the units, for the message.
            most: Largest number that may go; all of them by default.

        Raises:
            Refused: more than there are or than may go.
        """
        drop = self.drop or self._removed(total)
        if drop == 0:
            raise self._removes_none(total, unit)
        most = total if most is None else most
        if drop > most:
            raise Refused(f"{self._option}: of {total} {unit} at most {most} can be dropped.")
        return drop
