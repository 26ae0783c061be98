"""Options of the methods that round weights to a grid, and the note on what was only rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import Refused
from harness.method.contract import Note
from harness.method.targets import Targets, targeted
from harness.model.editing.matrices import Part
from harness.model.quantized.scheme import Scheme

if TYPE_CHECKING:
    from torch import Tensor

    from harness.model.view import MoEModel


class Rounding(BaseModel):
    """Bits and grid of the matrices named; the router is never quantized."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bits: Literal[2, 3, 4, 8] = 4
    """Bits per weight. 4 and 8 stay packed; 2 and 3 are simulated: dense weights on the grid."""
    group: Literal[0, 32, 64, 128] = 128
    """Number of consecutive inputs of a row that share a grid, 0 for all; the last group of a row
    may be smaller."""
    symmetric: bool = False
    """Put the zero of every grid in its middle."""
    targets: Targets | None = None
    """Parts of the block that are quantized; by default routed and shared experts, or the MLP of a
    dense model."""

    @property
    def scheme(self) -> Scheme:
        """Bits, group and symmetry, as an edit has them."""
        return Scheme(bits=self.bits, group=self.group, symmetric=self.symmetric)

    def parts(self, model: MoEModel) -> tuple[Part, ...]:
        """Return the parts to quantize in this model.

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
    """Number of calibration tokens below which a matrix is only rounded to nearest; the record
    names it then."""

    def starved(self, tokens: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the matrices that fewer than `min_tokens` tokens reached, with that number.

        Args:
            tokens: Number of tokens by matrix, int64, 0-dim, as `Covariances` counts them.
        """
        counts = {name: int(count) for name, count in tokens.items()}
        return {name: count for name, count in counts.items() if count < self.min_tokens}


def rounded_note(starved: Mapping[int, Mapping[str, int]]) -> Note:
    """Return the note on what was only rounded.

    Args:
        starved: Calibration tokens seen, by block and matrix, as `Quantization.starved` gives them.
    """
    tokens = {block: dict(matrices) for block, matrices in starved.items() if matrices}
    return Note(name="quantization.rounded", data=tokens)
