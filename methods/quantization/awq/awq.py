"""AWQ: weights scaled by how large their inputs are, clipped, and rounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.method import (
    Block,
    Calibration,
    Covariances,
    Edit,
    Magnitudes,
    Matrix,
    Method,
    MoEModel,
    Note,
    Propagate,
    Quantization,
    QuantizationErrors,
    Quantized,
    QuantizeWeights,
    SetWeights,
    rounded,
    rounded_note,
    stacks,
)
from methods.quantization.awq.clip import clipped
from methods.quantization.awq.groups import Group, groups
from methods.quantization.awq.problems import MOST, problems
from methods.quantization.awq.scale import Scales
from methods.quantization.awq.scale_search import Pairs, search


class AWQ(Quantization, Method):
    """AWQ (Lin et al. 2024, arXiv 2306.00978) over the matrices of every block.

    What a norm or a matrix gives is divided by s, channel by channel, and all that reads it
    multiplied by s before it is rounded: for a norm that is every expert's gate and up, the shared
    experts', the router and the shared experts' gate, or the attention's inputs; for an expert's up
    its own down; for v, where there is one for every query head, o; and the inner factor of what is
    low-rank for the outer. Of s = mean|x|^r for 20 ratios r, no scaling among them, the one is
    taken with the least squared error of the readers' outputs. Then the range of each group is cut
    off where that lowers its error, except in the attention's queries and keys.

    Deviations: AutoAWQ and C-MoE leave the router out, which then routes on inputs divided by s;
    `scale_router = false` does so. The error is that of the matrices' outputs over all calibration
    tokens, from second moments; the authors run the sublayer on 512 tokens for it, with its
    activations, coefficients and softmax. A ratio is searched for every expert's down on its own. A
    row is clipped only where the error of its whole output falls. A channel's |x| counts at least
    1e-4 of the average. Later blocks see the blocks before them quantized, unless `propagate =
    "original"`, as with the authors. What fewer than `min_tokens` tokens reached is rounded to
    nearest with the scales of what it reads, and neither asked for scales nor clipped. What cannot
    be scaled exactly is not, and the record says why. Attention is left alone unless targeted.
    `harness.method.quantization.grid.fit` names the deviations of the grid.
    """

    name: ClassVar[str] = "awq"
    reference: ClassVar[str] = (
        "Lin et al. 2024, arXiv 2306.00978: least ||Q(W s)(X / s) - W X||, s = mean|X|^r"
    )

    ratios: int = Field(default=20, ge=1, le=1000)
    """Number of r that are tried, from 0 in equal steps ("n_grid"); 1 tries no scaling alone."""
    duo: bool = False
    """Scale as AutoAWQ's "duo scaling": s = mean|x|^r / mean(|w| / max |w|)^(1 - r)."""
    shrink: float = Field(default=0.5, ge=0, lt=1)
    """Largest share of a group's range that may be cut off ("max_shrink"); 0: no clipping."""
    steps: int = Field(default=20, ge=1, le=1000)
    """Number of steps of the clipping, from the whole range to 0."""
    scale_router: bool = True
    """Compatibility: false leaves the router as it is although its inputs are scaled, as AutoAWQ
    and C-MoE do; for matching their rows only."""
    propagate: Propagate = "edited"

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one QuantizeWeights per block that has a target, then what else is scaled."""
        parts = self.parts(model)
        errors = QuantizationErrors(self.scheme)
        starved: dict[int, dict[str, int]] = {}
        scaled: dict[int, Any] = {}
        for block in calibration.walk(model, follow=self.propagate):
            chosen = block.matrices(*parts)
            if not chosen:
                continue
            sizes, moments = Magnitudes(*parts, "router"), Covariances(*parts)
            block.collect(moments, sizes)
            starved[block.index] = self.starved(moments.tokens)
            fed = {n: m for n, m in moments.sums.items() if n not in starved[block.index]}
            scales, scaled[block.index] = self._scales(block, chosen, sizes, fed)
            packed = self._packed(chosen, scales, fed)
            whole = ((n, matrix.dequantise(torch.float32)) for n, matrix in packed.items())
            errors.add(block, moments.sums, ((n, scales.plain(n, w)) for n, w in whole))
            others = {name: scales.scaled(name) for name in scales.names if name not in packed}
            yield QuantizeWeights.of(block.index, packed)
            if others:
                yield SetWeights.of(block.index, others)
        yield errors.note()
        yield rounded_note(starved)
        yield Note(name="awq.scales", data=scaled)

    def _scales(
        self,
        block: Block,
        chosen: Sequence[Matrix],
        sizes: Magnitudes,
        fed: Mapping[str, Tensor],
    ) -> tuple[Scales, dict[str, Any]]:
        """The scales of a block, with the ratios by producer and what is left unscaled, and why."""
        scales = Scales(block)
        able, left = groups(block, chosen)
        ratios: dict[str, float | None] = {}
        for together, pairs in problems(block, able, fed):
            best, values = self._search(block, together, sizes, pairs)
            for group, ratio, scale in zip(together, best, values, strict=True):
                ratios[group.producer] = ratio
                readers = [m for m in group.readers if self.scale_router or m.part != "router"]
                scales.move(scale, group.producer, readers)
        return scales, {"ratios": ratios, "unscaled": left}

    def _search(
        self, block: Block, together: Sequence[Group], sizes: Magnitudes, pairs: Pairs
    ) -> tuple[list[float | None], Tensor]:
        """The best ratios of groups side by side, and their scales; none without a token."""
        device, dtype = block.model.device, block.model.dtype
        if not pairs:
            shape = (len(together), together[0].leader.shape[1])
            return [None] * len(together), torch.ones(shape, device=device)
        magnitude = torch.stack([sizes.of(group.leader) for group in together]).to(device)
        return search(magnitude, pairs, self.scheme, dtype, ratios=self.ratios, duo=self.duo)

    def _packed(
        self, chosen: Sequence[Matrix], scales: Scales, fed: Mapping[str, Tensor]
    ) -> dict[str, Quantized]:
        """The matrices scaled, clipped if they have moments, and rounded."""
        block = scales.block
        dtype = block.model.dtype
        weights = {matrix.name: scales.scaled(matrix.name) for matrix in chosen}
        clip = [m for m in chosen if m.name in fed and not _compared(m)] if self.shrink else []
        for stack in stacks(clip, fed, most=MOST):
            weight = clipped(
                stack.weight(weights.__getitem__),
                stack.moment(lambda name: scales.moment(name, fed[name])),
                self.scheme,
                dtype,
                shrink=self.shrink,
                steps=self.steps,
            )
            weights |= stack.apart(weight)
        return {n: rounded(weight, self.scheme, dtype=dtype) for n, weight in weights.items()}


def _compared(matrix: Matrix) -> bool:
    """True if the outputs become queries or keys, whose products clipping would distort."""
    role = matrix.name.split(".")[1]
    return matrix.part == "attention" and role.partition("_")[0] in ("q", "k")
