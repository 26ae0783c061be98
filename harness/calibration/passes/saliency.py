"""Saliencies of experts: the measures of REAP's observer, all from one run."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.calibration.observe import Seen
from harness.calibration.statistic import Statistic
from harness.calibration.walk import Calibration
from harness.model.view import Block, MoEModel

LEAST_SUM = torch.finfo(torch.float32).eps
"""Below it the chosen probabilities are not divided by their sum, as in REAP's code."""


class Saliency(Statistic):
    """Sums over the tokens routed to each expert (Lasby et al. 2025, arXiv 2510.13999).

    p is the router's softmax over all experts, q = p / (sum of p over the experts chosen), f_e the
    expert's output without a routing weight. An expert that saw no token has zeros.

    Only the experts that a token was routed to are run, top-k of them; REAP's observer runs all,
    and uses the outputs of these.

    Attributes:
        tokens: Tokens routed to the expert, int64; like all that follow, [base experts].
        norms: Sum of ||f_e(x)||_2, fp64 like all that follow.
        mass: Sum of p.
        mass_renormalised: Sum of q.
        weighted: Sum of p ||f_e(x)||_2.
        weighted_renormalised: Sum of q ||f_e(x)||_2.
        largest: The largest element of f_e(x), 0 where none is positive.
    """

    def start(self, block: Block) -> None:
        """Zeros over the base model's experts."""
        self._experts = block.experts
        experts = block.model.experts
        self.tokens = torch.zeros(experts, dtype=torch.int64)
        self.norms = torch.zeros(experts, dtype=torch.float64)
        self.mass = torch.zeros(experts, dtype=torch.float64)
        self.mass_renormalised = torch.zeros(experts, dtype=torch.float64)
        self.weighted = torch.zeros(experts, dtype=torch.float64)
        self.weighted_renormalised = torch.zeros(experts, dtype=torch.float64)
        self.largest = torch.zeros(experts, dtype=torch.float64)

    def update(self, seen: Seen) -> None:
        """Run each expert on its tokens of one batch."""
        experts = seen.block.experts
        routed = torch.stack([seen.routed(e) for e in experts], -1)  # [tokens, experts left]
        p = seen.probs[:, list(experts)].double() * routed
        q = p / p.sum(-1, keepdim=True).clamp_min(LEAST_SUM)
        for place, expert in enumerate(experts):
            mine = routed[:, place]
            outputs = seen.expert(expert, seen.x[mine]).double()  # [tokens routed, hidden]
            self._add(expert, outputs, p[mine, place], q[mine, place])

    def _add(self, expert: int, outputs: Tensor, p: Tensor, q: Tensor) -> None:
        norms = outputs.norm(dim=-1)
        self.tokens[expert] += len(outputs)
        self.norms[expert] += norms.sum().cpu()
        self.mass[expert] += p.sum().cpu()
        self.mass_renormalised[expert] += q.sum().cpu()
        self.weighted[expert] += (p * norms).sum().cpu()
        self.weighted_renormalised[expert] += (q * norms).sum().cpu()
        if outputs.numel():
            self.largest[expert] = max(self.largest[expert], outputs.max().cpu())

    def per_token(self, total: Tensor) -> Tensor:
        """One of the sums per token routed to the expert; 0 where there was none."""
        return total / self.tokens.clamp_min(1)

    def of_experts(self, values: Tensor) -> dict[int, float]:
        """`values` [base experts] of the experts that are left, by number."""
        return {expert: float(values[expert]) for expert in self._experts}


def saliencies(model: MoEModel, calibration: Calibration) -> dict[int, Saliency]:
    """Block to its saliencies, for the blocks with experts."""
    return {
        block.index: block.collect(Saliency()) for block in calibration.walk(model) if block.experts
    }
