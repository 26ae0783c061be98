"""Matrices side by side: small ones are searched and clipped together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from harness.model.view import Block
from methods.awq.groups import Group
from methods.awq.scale_search import Pairs

MOST = 2**23
"""Numbers in the weights and moments of one stack; those of a single matrix may be more."""

Sharing = tuple[str, ...]
"""Matrices that read the same tokens, such as an expert's gate and up: one below the other, they
are one matrix."""


def sharing(moments: Mapping[str, Tensor]) -> list[Sharing]:
    """The matrices that have the same moments, by name."""
    found: dict[int, list[str]] = {}
    for name, moment in moments.items():
        found.setdefault(id(moment), []).append(name)
    return [tuple(names) for names in found.values()]


def stacks(block: Block, moments: Mapping[str, Tensor]) -> Iterator[list[Sharing]]:
    """What can be stacked: lists of equal shapes, none larger than `MOST`."""
    alike: dict[tuple[int, int], list[Sharing]] = {}
    for names in sharing(moments):
        outputs = sum(block.weight(name).shape[0] for name in names)
        alike.setdefault((outputs, len(moments[names[0]])), []).append(names)
    for (outputs, inputs), members in alike.items():
        size = max(1, MOST // ((outputs + inputs) * inputs))
        for start in range(0, len(members), size):
            yield members[start : start + size]


def stacked(weights: Mapping[str, Tensor], stack: Sequence[Sharing]) -> Tensor:
    """Weights of equal shapes, [stack, outputs, inputs]."""
    return torch.stack([torch.cat([weights[name] for name in names]) for names in stack])


def apart(
    weight: Tensor, weights: Mapping[str, Tensor], stack: Sequence[Sharing]
) -> dict[str, Tensor]:
    """What `stacked` put together, by name; `weights` give the rows of each. Views."""
    found: dict[str, Tensor] = {}
    for place, names in enumerate(stack):
        rows = [len(weights[name]) for name in names]
        found |= zip(names, torch.split(weight[place], rows), strict=True)
    return found


def problems(
    block: Block, found: Iterable[Group], fed: Mapping[str, Tensor]
) -> Iterator[tuple[list[Group], Pairs]]:
    """Groups to be searched side by side, with their readers.

    Args:
        block: Gives the weights.
        found: The groups.
        fed: The moments of what is rounded and has seen tokens, by name.
    """
    owners: dict[str, Group] = {}
    alone: dict[str, Tensor] = {}
    for group in found:
        moments = {one.name: fed[one.name] for one in group.readers if one.name in fed}
        if len(sharing(moments)) == 1:
            owners |= dict.fromkeys(moments, group)
            alone |= moments
        else:
            pairs = (_pair(block, moments, stack) for stack in stacks(block, moments))
            yield [group], [(weight[None], moment[None]) for weight, moment in pairs]
    for stack in stacks(block, alone):
        weight, moment = _pair(block, alone, stack)
        yield [owners[names[0]] for names in stack], [(weight[:, None], moment[:, None])]


def _pair(
    block: Block, moments: Mapping[str, Tensor], stack: Sequence[Sharing]
) -> tuple[Tensor, Tensor]:
    """Weights [stack, outputs, inputs] and moments [stack, inputs, inputs], fp32."""
    weights = {name: block.weight(name).float() for names in stack for name in names}
    return stacked(weights, stack), torch.stack([moments[names[0]].float() for names in stack])
