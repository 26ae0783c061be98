"""AWQ's searches side by side: groups of equal shapes, each with the readers that are rounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from harness.method import Block, Matrix, Stack, sharing, stacks
from methods.quantization.awq.groups import Group
from methods.quantization.awq.scale_search import Pairs

MOST = 2**23
"""Numbers in the weights and moments of one stack; those of a single matrix may be more."""


def problems(
    block: Block, groups: Iterable[Group], fed: Mapping[str, Tensor]
) -> Iterator[tuple[list[Group], Pairs]]:
    """Yield groups that are searched side by side, with their readers.

    Args:
        block: The block, which gives the weights.
        groups: Groups that can be scaled.
        fed: Moments of the matrices that are rounded and have seen tokens, by name.
    """
    owners: dict[str, Group] = {}
    alone: list[Matrix] = []
    for group in groups:
        readers = [reader for reader in group.readers if reader.name in fed]
        if len(sharing(readers, fed)) == 1:
            owners |= {reader.name: group for reader in readers}
            alone += readers
        else:
            pairs = (_pair(block, stack, fed) for stack in stacks(readers, fed, most=MOST))
            yield [group], [(weight[None], moment[None]) for weight, moment in pairs]
    for stack in stacks(alone, fed, most=MOST):
        weight, moment = _pair(block, stack, fed)
        owned = [owners[members[0].name] for members in stack.members]
        yield owned, [(weight[:, None], moment[:, None])]


def _pair(block: Block, stack: Stack, fed: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weights [stack, outputs, inputs] and moments [stack, inputs, inputs], fp32."""
    weight = stack.weight(lambda name: block.weight(name).float())
    return weight, stack.moment(lambda name: fed[name].float())
