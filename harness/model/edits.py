"""Edits: the compressed model as data.

An edit is one change to one block. Its fields are JSON and go into the artifact; its tensors live
only between yield and apply, and afterwards in the block. Applying replaces parameters and modules
on a private shell and never writes into a tensor, so an original stays what it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from harness.errors import Refused, UserError, first_fault
from harness.model.editing import quantizing as packing
from harness.model.editing import surgery
from harness.model.families.family import Family
from harness.model.quantized.scheme import Quantized, Scheme

Number = Annotated[int, Field(strict=True, ge=0)]
"""Number of a block or an expert in the base model; True is none."""
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _once(names: tuple[Any, ...]) -> tuple[Any, ...]:
    """The names or numbers, each of which may stand once."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"it names {twice[0]!r} twice; name each once")
    return names


Experts = Annotated[tuple[Number, ...], Field(min_length=1), AfterValidator(_once)]
Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_once)]


class Edit(BaseModel, ABC):
    """One change to one block. Blocks and experts carry their numbers in the base model."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    kind: ClassVar[str]

    block: Number
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
    """Keep some experts; counts may differ per block.

    What happens to the router:

    `rows`: the rows of the others are removed. The softmax is then taken over the experts kept: in
    families that do not renormalise, the weights of the chosen experts grow by 1 / (probability
    mass kept). Top-k becomes what is left where fewer are kept.
    `mask`: softmax over all rows, then the top-k of the experts kept: weights stay what they were.
    `preserve`: all rows stay, and what is routed to a removed expert adds nothing (C-MoE's
    `preserve_gate`).
    """

    kind: ClassVar[str] = "keep_experts"

    experts: Experts
    router: surgery.Routing = "rows"

    def apply(self, layer: nn.Module, family: Family) -> nn.Module:
        """Select slices of the fused experts; the router follows."""
        where = f"block {self.block}"
        surgery.keep_experts(layer, family, self.experts, self.router, where=where)
        return layer


class MergeExperts(Edit):
    """Merge the experts of each group into their weighted mean.

    The merged expert carries the number of its group's first member. All router rows stay and lead
    to it: a token that chooses two members gets the sum of their coefficients.
    """

    kind: ClassVar[str] = "merge_experts"

    groups: tuple[Experts, ...] = Field(min_length=1)
    """Every expert left, in one group."""
    weights: tuple[tuple[Weight, ...], ...]
    """For each group one weight per member, divided by their sum; equal where they sum to 0."""

    def apply(self, layer: nn.Module, family: Family) -> nn.Module:
        """Stack the means."""
        where = f"block {self.block}"
        surgery.merge_experts(layer, self.groups, self.weights, where=where)
        return layer


class LowRank(Edit):
    """Matrices as chains of two factors, W = U V; ranks may differ per expert and per matrix.

    `tensors` maps "NAME.u" [outputs, rank] and "NAME.v" [rank, inputs] for each name in `ranks`.
    """

    kind: ClassVar[str] = "low_rank"

    ranks: dict[str, Annotated[int, Field(strict=True, ge=1)]] = Field(min_length=1)

    def apply(self, layer: nn.Module, family: Family) -> nn.Module:
        """Put the factors in the matrices' places; on the meta device (a reload) only shapes."""
        surgery.factorise(layer, family, self.ranks, self.tensors, f"block {self.block}")
        return layer

    @classmethod
    def of(cls, block: int, factors: Mapping[str, tuple[Tensor, Tensor]]) -> LowRank:
        """The edit that replaces matrices by their (u, v), by name."""
        tensors = {
            f"{name}.{letter}": tensor
            for name, pair in factors.items()
            for letter, tensor in zip("uv", pair, strict=True)
        }
        ranks = {name: u.shape[1] for name, (u, _) in factors.items()}
        return cls(block=block, ranks=ranks, tensors=tensors)


class SkipExperts(Edit):
    """Skip, and do not compute, chosen experts whose weight is below beta times the largest.

    Families that renormalise rescale what is left to the former sum of weights.
    """

    kind: ClassVar[str] = "skip_experts"

    beta: float = Field(ge=0, le=1)

    def apply(self, layer: nn.Module, family: Family) -> nn.Module:
        """Give the experts the threshold."""
        surgery.skip_experts(layer, family, self.beta, where=f"block {self.block}")
        return layer


class DropMoE(Edit):
    """Remove the MoE sublayer with its norm: router, routed and shared experts.

    Of a dense block, its MLP with the norm.
    """

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

    matrices: Names

    def apply(self, layer: nn.Module, family: Family) -> nn.Module:
        """Replace the parameters; without tensors (a reload) the layout is unchanged anyway."""
        surgery.set_weights(layer, family, self.matrices, self.tensors, f"block {self.block}")
        return layer

    @classmethod
    def of(cls, block: int, tensors: Mapping[str, Tensor]) -> SetWeights:
        """The edit that sets `tensors`, by name."""
        return cls(block=block, matrices=tuple(tensors), tensors=tensors)


class QuantizeWeights(Edit):
    """Matrices, or factors, as codes on a grid: packed in memory and on disk, and run packed.

    `tensors` maps "NAME.codes", "NAME.scales" and, unless the scheme is symmetric, "NAME.zeros" of
    each name in `matrices`, as `Quantized` has them.

    2 and 3 bits are only simulated: the matrices stay dense, their values are on the grid.
    """

    kind: ClassVar[str] = "quantize_weights"

    matrices: Names
    scheme: Scheme

    @property
    def simulated(self) -> bool:
        """True if the matrices stay dense, so that no bytes and no speed may be claimed."""
        return not self.scheme.packed

    def apply(self, layer: nn.Module, family: Family) -> nn.Module:
        """Put packed matrices in the matrices' places; on the meta device only shapes."""
        where = f"block {self.block}"
        packing.quantize(layer, family, self.matrices, self.scheme, self.tensors, where)
        return layer

    @classmethod
    def of(cls, block: int, matrices: Mapping[str, Quantized]) -> QuantizeWeights:
        """The edit that replaces matrices, by name; all of one scheme."""
        tensors = {
            f"{name}.{part}": tensor
            for name, matrix in matrices.items()
            for part, tensor in matrix.tensors.items()
        }
        scheme = next(iter(matrices.values())).scheme
        return cls(block=block, matrices=tuple(matrices), scheme=scheme, tensors=tensors)


EDITS: dict[str, type[Edit]] = {
    edit.kind: edit
    for edit in (
        KeepExperts,
        MergeExperts,
        LowRank,
        SetWeights,
        QuantizeWeights,
        SkipExperts,
        DropMoE,
        DropBlock,
    )
}


def parse(data: object, *, where: str) -> Edit:
    """An edit from its JSON.

    Raises:
        UserError: an unknown kind, or fields that do not fit.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: it should be a table with the edit's 'kind'; copy it again.")
    fields = dict(data)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in EDITS:
        raise UserError(f"{where}: unknown edit {kind!r}; was it written by a newer moebench?")
    try:
        return EDITS[kind].model_validate(fields)
    except ValidationError as error:
        fault = first_fault(error, EDITS[kind])
        raise UserError(f"{where}: the edit {kind!r} is not valid: {fault.text}.") from None


__all__ = [
    "EDITS",
    "DropBlock",
    "DropMoE",
    "Edit",
    "KeepExperts",
    "LowRank",
    "MergeExperts",
    "QuantizeWeights",
    "Refused",
    "SetWeights",
    "SkipExperts",
    "parse",
]
