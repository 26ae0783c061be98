"""HC-SMoE: experts whose mean outputs are close are merged, by hierarchical clustering."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from scipy.cluster.hierarchy import cut_tree, linkage
from torch import Tensor

from harness.method import (
    Calibration,
    Edit,
    KeepBudget,
    MeanOutputs,
    MergeExperts,
    Method,
    MoEModel,
    Note,
    TokenCount,
)


class HCSMoE(KeepBudget, Method):
    """HC-SMoE (Chen et al. 2024, arXiv 2410.08589), one-shot.

    Every expert is described by its mean output, without routing weight, over all calibration
    tokens of the original model. In each layer the experts are clustered by average linkage of the
    Euclidean distances into `keep` groups, and each group becomes the mean of its members' weights,
    weighted by the tokens routed to them. The router keeps its rows. A merged expert has the number
    of its most used member.

    Deviations: means are summed in fp64; a group that saw no token is averaged with equal weights;
    merged experts are stored once.
    """

    name: ClassVar[str] = "hc-smoe"
    reference: ClassVar[str] = "Chen et al. 2024, arXiv 2410.08589: clusters of mean_t f_e(x_t)"

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one MergeExperts per MoE layer that has experts to merge."""
        kept = self.plan(model, least=1, even=False)
        groups: dict[int, tuple[tuple[int, ...], ...]] = {}
        tokens: dict[int, TokenCount] = {}
        for block in calibration.walk(model):
            if block.index in kept and kept[block.index] < len(block.experts):
                tokens[block.index] = counts = TokenCount()
                outputs = block.collect(MeanOutputs(), counts)
                groups[block.index] = clusters(outputs.mean(), counts, kept[block.index])
        yield Note(name="hc-smoe.groups", data=groups)
        for index, merged in groups.items():
            count = tokens[index].count.tolist()
            weights = tuple(tuple(count[expert] for expert in group) for group in merged)
            yield MergeExperts(block=index, groups=merged, weights=weights)


def clusters(outputs: Tensor, tokens: TokenCount, count: int) -> tuple[tuple[int, ...], ...]:
    """Return `count` groups of a layer's experts, the most used of each first.

    Args:
        outputs: Mean output of each expert, fp64 [base experts, hidden].
        tokens: Number of tokens routed to each expert.
        count: Number of groups; fewer than there are experts.
    """
    experts = list(tokens.experts)
    tree = linkage(outputs[experts].numpy(), method="average", metric="euclidean")
    groups: dict[int, list[int]] = {}
    # fcluster's "maxclust" would give fewer groups where distances tie.
    for expert, label in zip(experts, cut_tree(tree, count)[:, 0].tolist(), strict=True):
        groups.setdefault(label, []).append(expert)
    used = tokens.count.tolist()
    return tuple(
        tuple(sorted(group, key=lambda expert: (-used[expert], expert)))
        for group in groups.values()
    )
