"""What quantizing methods share: their options, their grids, and the report on their errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.errors import Refused
from harness.method.contract import Note
from harness.method.quantization.errors import QuantizationErrors
from harness.method.quantization.grid import fit, nearest, rounded
from harness.method.targets import targeted
from harness.model.editing.matrices import Part
from harness.model.quantized.scheme import Scheme

if TYPE_CHECKING:
    from torch import Tensor

    from harness.model.view import MoEModel

Target = Literal["experts", "shared", "dense", "attention"]


class Rounding(BaseModel):
    """Bits and grid of the matrices named; the router is never quantized."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bits: Literal[2, 3, 4, 8] = 4
    """4 and 8 stay packed; 2 and 3 are simulated: dense weights that lie on the grid."""
    group: Literal[0, 32, 64, 128] = 128
    """Consecutive inputs of a row that share a grid; 0: all of them. The last may be fewer."""
    symmetric: bool = False
    """A grid with its zero in the middle."""
    targets: frozenset[Target] | None = None
    """Parts of the block that are quantized; by default routed and shared experts, or the MLP of a
    dense model."""

    @model_validator(mode="after")
    def _some_target(self) -> Self:
        if self.targets is not None and not self.targets:
            raise ValueError("targets is empty; name experts, shared, dense or attention")
        return self

    @property
    def scheme(self) -> Scheme:
        """Bits, group and symmetry, as an edit has them."""
        return Scheme(bits=self.bits, group=self.group, symmetric=self.symmetric)

    def parts(self, model: MoEModel) -> tuple[Part, ...]:
        """The parts to quantize in this model.

        Raises:
            Refused: the model has none of a part that is named, or it is quantized already.
        """
        chosen = targeted(model, self.targets, "to quantize")
        for block in model.blocks:
            for matrix in block.matrices(*chosen):
                if block.packed_scheme(matrix) is not None:
                    raise Refused(
                        f"block {block.index}: {matrix.name} is quantized already; quantize once."
                    )
        return chosen


class Quantization(Rounding):
    """Quantization that looks at calibration tokens."""

    min_tokens: int = Field(default=1, ge=1)
    """A matrix that fewer calibration tokens reached is rounded to nearest, and the record says
    so."""

    def starved(self, tokens: Mapping[str, Tensor]) -> dict[str, int]:
        """The matrices that fewer than `min_tokens` tokens reached, with their number.

        Args:
            tokens: Of each matrix, int64, 0-dim, as `Covariances` counts them.
        """
        counts = {name: int(count) for name, count in tokens.items()}
        return {name: count for name, count in counts.items() if count < self.min_tokens}


def rounded_note(starved: Mapping[int, Mapping[str, int]]) -> Note:
    """What fell back to rounding: block, matrix, calibration tokens it saw."""
    found = {block: dict(matrices) for block, matrices in starved.items() if matrices}
    return Note(name="quantization.rounded", data=found)


__all__ = [
    "Quantization",
    "QuantizationErrors",
    "Rounding",
    "fit",
    "nearest",
    "rounded",
    "rounded_note",
]
