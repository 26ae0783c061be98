"""RTN: every weight rounded to the nearest point of its group's grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from harness.method import (
    Calibration,
    Edit,
    Method,
    MoEModel,
    Note,
    QuantizeWeights,
    Rounding,
    rounded,
)


class RTN(Rounding, Method):
    """Round to nearest, the baseline of GPTQ and AWQ, without a look at any token.

    code = clamp(round(w / scale) + zero, 0, levels - 1) on the grid of its group, which
    `harness.method.quantization.grid.fit` describes together with what deviates from the authors'
    code.
    """

    name: ClassVar[str] = "rtn"
    reference: ClassVar[str] = "Frantar et al. 2023, arXiv 2210.17323, the baseline RTN"
    calibrated: ClassVar[bool] = False

    search: bool = False
    """Shrink every group's range to the one of least sum |w - q|^2.4 ("mse" in GPTQ's code)."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one QuantizeWeights per block that has a target."""
        parts = self.parts(model)
        for block in model.blocks:
            quantized = {
                matrix.name: rounded(block.weight(matrix), self.scheme, search=self.search)
                for matrix in block.matrices(*parts)
            }
            if quantized:
                yield QuantizeWeights.of(block.index, quantized)
