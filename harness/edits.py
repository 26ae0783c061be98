"""Edits: the compressed model as data.

An edit is one change to one block. Its fields are JSON and go into the artifact; its tensors live
only between yield and apply, and afterwards in the block. Applying replaces parameters and modules
on a private shell and never writes into a tensor, so an original stays what it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from harness.errors import Refused, UserError
from harness.model import surgery
from harness.model.families import Family


class Edit(BaseModel, ABC):
    """One change to one block. Blocks and experts carry their numbers in the base model."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    kind: ClassVar[str]

    block: int = Field(ge=0)
    tensors: Mapping[str, Tensor] = Field(default_factory=dict, exclude=True, repr=False)

    @abstractmethod
    def apply(self, layer: nn.Module, family: Family) -> nn.Module | None:
        """Change a private shell of the block, real or on the meta device. None: the block is gone.

        Raises:
            Refused: the edit does not fit the block as it is.
        """

    def data(self) -> dict[str, Any]:
        """The edit as JSON, its kind first."""
        return {"kind": self.kind, **self.model_dump(mode="json")}

    def light(self) -> Edit:
        """The edit without its tensors."""
        return self.model_copy(update={"tensors": {}})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edit) and self.data() == other.data()

    def __hash__(self) -> int:
        return hash((self.kind, self.model_dump_json()))


class KeepExperts(Edit):
    """Keep some experts; the router's rows of the others are removed.

    The softmax is then taken over the experts kept: in families that do not renormalise, the
    weights of the chosen experts grow by 1 / (probability mass kept). Counts may differ per block;
    top-k becomes what is left where fewer are kept.
    """

    kind: ClassVar[str] = "keep_experts"

    experts: tuple[int, ...] = Field(min_length=1)
    router: Literal["rows"] = "rows"

    def apply(self, layer: nn.Module, family: Family) -> nn.Module:
        """Select slices of the fused experts and rows of the router."""
        surgery.keep_experts(layer, self.experts, where=f"block {self.block}")
        return layer


class DropMoE(Edit):
    """Remove the MoE sublayer with its norm: router, routed and shared experts."""

    kind: ClassVar[str] = "drop_moe"

    def apply(self, layer: nn.Module, family: Family) -> nn.Module:
        """Replace the sublayer by one that adds nothing."""
        surgery.drop_moe(layer, where=f"block {self.block}")
        return layer


class DropBlock(Edit):
    """Remove the whole block."""

    kind: ClassVar[str] = "drop_block"

    def apply(self, layer: nn.Module, family: Family) -> None:
        """Nothing is left."""
        return


class SetWeights(Edit):
    """New values for matrices or norms of a block: masked, updated or rescaled weights.

    `tensors` maps each name in `matrices` to its new value, same shape and dtype as the old.
    """

    kind: ClassVar[str] = "set_weights"

    matrices: tuple[str, ...] = Field(min_length=1)

    def apply(self, layer: nn.Module, family: Family) -> nn.Module:
        """Replace the parameters; without tensors (a reload) the layout is unchanged anyway."""
        surgery.set_weights(layer, family, self.matrices, self.tensors, f"block {self.block}")
        return layer

    @classmethod
    def of(cls, block: int, tensors: Mapping[str, Tensor]) -> SetWeights:
        """The edit that sets `tensors`, by name."""
        return cls(block=block, matrices=tuple(tensors), tensors=tensors)


EDITS: dict[str, type[Edit]] = {
    edit.kind: edit for edit in (KeepExperts, DropMoE, DropBlock, SetWeights)
}


def parse(data: Mapping[str, Any], *, where: str) -> Edit:
    """An edit from its JSON.

    Raises:
        UserError: an unknown kind, or fields that do not fit.
    """
    fields = dict(data)
    kind = fields.pop("kind", None)
    if kind not in EDITS:
        raise UserError(f"{where}: unknown edit {kind!r}; was it written by a newer moebench?")
    try:
        return EDITS[kind].model_validate(fields)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{where}: the edit {kind!r} is not valid: {reason}.") from error


__all__ = ["EDITS", "DropBlock", "DropMoE", "Edit", "KeepExperts", "Refused", "SetWeights", "parse"]
