"""Errors that quantization makes in the outputs of matrices, on the calibration tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from harness.method.contract import Note
from harness.method.quantization.grid import rounded
from harness.model.quantized.scheme import Scheme
from harness.model.view import Block


class QuantizationErrors:
    """Errors tr((W - Q) H (W - Q)^T) of a method and of plain rounding, summed over each block.

    H = sum x x^T over the calibration tokens that a matrix multiplied, so that this is the squared
    error of its outputs on them. A matrix that no token reached adds nothing.

    Args:
        scheme: Scheme of the quantized matrices; plain rounding gets the same.
        search: True if plain rounding searches its ranges.
    """

    def __init__(self, scheme: Scheme, *, search: bool = False) -> None:
        self.scheme = scheme
        self.search = search
        self.totals: dict[int, dict[str, float]] = {}
        """Errors by block: "ours" and "rtn"."""

    def add(
        self, block: Block, moments: Mapping[str, Tensor], ours: Iterable[tuple[str, Tensor]]
    ) -> None:
        """Measure the matrices of a block that is not quantized yet.

        Args:
            block: The block, which gives the weights W.
            moments: H of each matrix by name, [inputs, inputs], as `Covariances` sums them.
            ours: Names and Q, [outputs, inputs], as they act on the inputs behind H: without
                any scale that was moved into what comes before. One is held at a time.
        """
        if block.model.device.type == "meta":
            return
        totals = {"ours": 0.0, "rtn": 0.0}
        for name, values in ours:
            weight, moment = block.weight(name), moments[name]
            plain = rounded(weight, self.scheme, search=self.search).dequantise(moment.dtype)
            totals["ours"] += objective(weight, values, moment)
            totals["rtn"] += objective(weight, plain, moment)
        self.totals[block.index] = totals

    def note(self) -> Note:
        """Return the errors of all blocks, for the record."""
        return Note(name="quantization.error", data=self.totals)


def objective(weight: Tensor, values: Tensor, moment: Tensor) -> float:
    """Return tr((W - Q) H (W - Q)^T), summed in fp64.

    Args:
        weight: W, [outputs, inputs].
        values: Q, [outputs, inputs].
        moment: H, [inputs, inputs]; products are in its dtype.
    """
    difference = weight.to(moment) - values.to(moment)
    return float((difference @ moment).mul_(difference).double().sum())
