"""MoE-I²'s second half: every expert's matrices factored, at ranks by the expert's importance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from harness.method import (
    Block,
    Calibration,
    Edit,
    Importance,
    Method,
    MoEModel,
    Note,
    RankBudget,
    factored,
    leave_one_out,
)


class MoEI2Decompose(RankBudget, Method):
    """Intra-expert decomposition of MoE-I² (Yang et al. 2024, arXiv 2411.01016).

    Expert j of layer i, which M_i experts share, gets the rank

        R_ij = (I_ij + eps)^alpha / sum_j (I_ij + eps)^alpha * R_a * M_i

    for its gate, up and down matrix; I_ij is the token loss of the model without that expert, R_a
    the average rank (`rank`, or what `ratio` comes to). Each matrix is factored as by svd-llm,
    whitened by the inputs of the tokens routed to its expert; an expert that saw none gets the
    plain SVD. Both I and the inputs are those of the model as the step finds it, in the paper's
    recipe the pruned one; what is decomposed earlier in the step does not change them.

    Choices where the paper is silent: a layer's ranks add up to R_a M_i exactly (largest remainder;
    less only what `multiple` cannot spend); none is below 1 or above the break-even rank
    m n / (m + n), at which factors are as large as the matrix (full rank with `larger`), and the
    others share what that frees or costs. An expert whose removal lowers the loss counts as 0 with
    `importance = "increase"`. A `ratio` is rounded to the nearest rank.

    The losses differ by little, so that with the paper's reading, `importance = "loss"`, ranks are
    nearly uniform.
    """

    name: ClassVar[str] = "moe-i2-decompose"
    reference: ClassVar[str] = "Yang et al. 2024, arXiv 2411.01016: rank_ij ~ (I_ij + eps)^alpha"

    ranks: Literal["importance", "uniform"] = "importance"
    """Distribution of a layer's ranks: by the experts' importance, or the same for all."""
    importance: Literal["loss", "increase"] = "loss"
    """Importance I_ij: the loss without the expert, or by how much that is more than the model's
    own."""
    alpha: float = Field(default=0.15, ge=0, le=10)
    """Exponent of the importance: how unequal ranks are; 0 makes them uniform."""
    eps: float = Field(default=1e-6, gt=0)
    """Number added to every importance."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one LowRank per MoE layer, the importances and the ranks."""
        layers = model.moe_blocks()
        plan = {
            block.index: self._layer_ranks(block, [1.0] * len(block.experts)) for block in layers
        }
        if self.ranks == "importance":
            importance = leave_one_out(model, calibration)
            yield Note(name="moe-i2.importance", data=importance.table())
            for block in layers:
                plan[block.index] = self._layer_ranks(block, self._weights(block, importance))
        yield Note(name="moe-i2-decompose.ranks", data=plan)
        for live in calibration.walk(model, follow="original"):
            if ranks := plan.get(live.index):
                experts = [(m.name, m.expert) for m in live.matrices("experts")]
                yield factored(live, {name: ranks[e] for name, e in experts if e is not None})

    def _weights(self, block: Block, importance: Importance) -> list[float]:
        start = importance.base if self.importance == "increase" else 0.0
        excess = [importance.losses[block.index][expert] - start for expert in block.experts]
        return [(max(value, 0.0) + self.eps) ** self.alpha for value in excess]

    def _layer_ranks(self, block: Block, weights: Sequence[float]) -> dict[int, int]:
        """The rank of every expert of the block."""
        where, matrices = f"block {block.index}", block.matrices("experts")
        self.check(matrices, where=where)
        gates = [matrix for matrix in matrices if matrix.name.endswith(".gate")]
        return dict(zip(block.experts, self.spread(gates, weights, where=where), strict=True))
