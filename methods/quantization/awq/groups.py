"""Weights that are scaled together: a producer, whose outputs are divided, and its readers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from harness.method import Block, Matrix
from harness.model.editing.matrices import NORMS


@dataclass(frozen=True)
class Group:
    """Norm or matrix, and every matrix that reads it.

    Dividing the producer's outputs by s and multiplying the readers' columns by s changes nothing.
    """

    producer: str
    readers: tuple[Matrix, ...]

    @property
    def leader(self) -> Matrix:
        """Reader that sees every token the producer sees, where there is one."""
        return next((reader for reader in self.readers if reader.expert is None), self.readers[0])


def groups(block: Block, rounded: Iterable[Matrix]) -> tuple[list[Group], dict[str, str]]:
    """Return the groups of a block with a reader that is to be rounded.

    Args:
        block: The block.
        rounded: Matrices that are to be rounded.

    Returns:
        The groups that can be scaled; and of the others, by what their matrices read, the reason
        why not.
    """
    matrices = {matrix.name: matrix for matrix in block.matrices()}
    readers: dict[str, list[Matrix]] = {}
    for matrix in matrices.values():
        readers.setdefault(matrix.reads, []).append(matrix)
    able, unscaled = [], {}
    for reads in dict.fromkeys(matrix.reads for matrix in rounded):
        # Of a low-rank matrix the outer factor gives what others read.
        producer = reads if reads in NORMS or reads in matrices else f"{reads}.u"
        group = Group(producer, tuple(readers[reads]))
        reason = _obstacle(block, group, matrices.get(producer))
        if reason:
            unscaled[reads] = reason
        else:
            able.append(group)
    return able, unscaled


def _obstacle(block: Block, group: Group, matrix: Matrix | None) -> str:
    """The reason why scales cannot move from the producer into its readers; empty if they can.

    Args:
        block: The block they are in.
        group: The producer and its readers.
        matrix: The producer, if it is a matrix that is there.
    """
    readers = group.readers
    if any(block.packed_scheme(reader) is not None for reader in readers):
        return "a matrix that reads it is quantized already"
    if group.producer in NORMS:
        return ""
    if matrix is None or not all(_linear(matrix.name, reader.name) for reader in readers):
        return "what lies between is not linear in every channel"
    if any(reader.shape[1] != matrix.shape[0] for reader in readers):
        return "its outputs are not one to one the inputs of what reads it"
    if block.packed_scheme(matrix) is not None:
        return "it is quantized already"
    module = block.module(matrix)
    if isinstance(module, nn.Linear) and module.bias is not None:
        return "it has a bias"
    if matrix.part == "attention" and getattr(block.model.config, "clip_qkv", None) is not None:
        return "the model clamps its outputs"
    return ""


def _linear(producer: str, reader: str) -> bool:
    """True if a factor of the producer's outputs is the same factor of the reader's inputs.

    So it is from v to u of a low-rank matrix, from up to down (which reads act(gate x) * up x), and
    from the attention's v to o. Latent attention has a norm in between.
    """
    source, target = producer.removesuffix(".u"), reader.removesuffix(".v")
    if producer.endswith(".v") and reader.endswith(".u"):
        return producer[:-2] == reader[:-2]
    if source.endswith(".up"):
        return target == f"{source.removesuffix('up')}down"
    return (source, target) == ("attention.v", "attention.o")
