"""Routers: their groups, and one whose removed experts are masked after the softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.model.families.family import Family


def renormalises(gate: Any, family: Family) -> bool:
    """True if a router divides the chosen weights by their sum."""
    if isinstance(gate, MaskedRouter):
        return gate.renormalise
    if family.renormalise == "config":
        return bool(gate.norm_topk_prob)
    return family.renormalise == "always"


@dataclass(frozen=True)
class Grouping:
    """The groups of a group-limited router (DeepSeek-V2), consecutive rows in equal numbers.

    A token chooses its experts among the groups with the largest probabilities.
    """

    groups: int
    chosen: int
    """Groups that a token's experts may come from."""

    def of_row(self, rows: int) -> list[int]:
        """The group of each of so many rows."""
        return [row // (rows // self.groups) for row in range(rows)]


def grouping(gate: Any) -> Grouping | None:
    """The groups that limit a router's choice; None where it chooses among all rows."""
    if isinstance(gate, MaskedRouter):
        return gate.grouping
    groups = getattr(gate, "num_group", None)
    if groups in (None, 1) or getattr(gate, "topk_method", "greedy") == "greedy":
        return None
    return Grouping(int(groups), int(gate.topk_group))


class MaskedRouter(nn.Module):
    """Softmax over all rows, then the top-k of the experts kept; groups limit it as they did.

    Where a family does not renormalise, the coefficients stay what they were; cutting router rows
    would make them larger. A token whose groups have fewer than top-k left gets weights of 0.

    Args:
        gate: transformers' router, or one of these; its weight is shared.
        family: How it turns probabilities into coefficients.
        kept: Which rows may be chosen, bool [rows].
    """

    kept: Tensor

    def __init__(self, gate: Any, family: Family, kept: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(gate.weight.detach(), requires_grad=False)  # [rows, hidden]
        self.num_experts = len(kept)
        self.grouping = grouping(gate)
        self.top_k = min(int(gate.top_k), int(kept.sum()))
        self.renormalise = renormalises(gate, family)
        self.upcast = family.float_router
        self.scale = _scale(gate, family)
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [tokens, rows], weights [tokens, k], rows chosen int64 [tokens, k]."""
        dtype = torch.float32 if self.upcast else hidden.dtype
        hidden = hidden.reshape(-1, hidden.shape[-1])
        logits = F.linear(hidden.to(dtype), self.weight.to(dtype))
        probs = logits.softmax(-1, dtype=torch.float32).masked_fill(~self.kept, 0.0)
        if self.grouping is not None:
            probs = _limited(probs, self.grouping)
        weights, index = probs.topk(self.top_k, dim=-1)
        if self.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        return logits, weights * self.scale, index


def _limited(probs: Tensor, grouping: Grouping) -> Tensor:
    """Probabilities [tokens, rows], 0 outside each token's groups."""
    grouped = probs.view(len(probs), grouping.groups, -1)  # [tokens, groups, rows of a group]
    best = grouped.amax(-1).topk(grouping.chosen, dim=-1).indices  # [tokens, chosen]
    taken = torch.zeros(grouped.shape[:2], dtype=torch.bool, device=probs.device)
    return grouped.masked_fill(~taken.scatter_(1, best, True)[..., None], 0.0).flatten(1)


def _scale(gate: Any, family: Family) -> float:
    if isinstance(gate, MaskedRouter):
        return gate.scale
    return float(getattr(gate, family.scaling)) if family.scaling else 1.0
