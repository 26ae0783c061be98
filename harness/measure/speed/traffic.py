"""Bytes that a decoding step cannot avoid to move, read off the loaded modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from typing import cast

from torch import Tensor, nn
from torch.sparse import SparseSemiStructuredTensor
from transformers import PreTrainedModel

from harness.measure.moe_layers import MoELayer, decoder_layers, moe_layers
from harness.measure.speed.semi_structured import SparseBank
from harness.model.layers.experts import NOWHERE, Experts
from harness.model.layers.router import MaskedRouter


@dataclass(frozen=True)
class Traffic:
    """Bytes that one decoding step moves: one token of each sequence of a batch.

    Attributes:
        parts: Bytes by part of the model: experts, router, shared, attention, other (norms, dense
            MLPs), head, embedding, cache.
        experts: Routed experts that are read, per MoE layer, on average; 0.0 without any.
    """

    parts: dict[str, int]
    experts: float

    @property
    def total(self) -> int:
        """Bytes."""
        return sum(self.parts.values())


def traffic(lm: PreTrainedModel, *, batch: int, context: int, cache_bytes: int) -> Traffic:
    """Weights that a step multiplies, each read once at its stored size, and the cache.

    Routed experts: those that at least one of the batch's tokens is computed by. One token visits
    top-k router rows, each equally often; where experts are skipped or a row leads nowhere, the
    measured share of choices is computed (`harness.measure.shares`). Tokens of a batch choose
    independently. Activations are not counted.

    Args:
        lm: As loaded; packed weights count their packed bytes.
        batch: Sequences.
        context: Positions of the cache that are read, per sequence; one more is written.
        cache_bytes: Of one position of all layers and all sequences.
    """
    parts: Counter[str] = Counter()
    read: list[float] = []
    for block in decoder_layers(lm):
        counted: set[nn.Module] = set()
        attention = getattr(block, "self_attn", None)
        if attention is not None:
            parts["attention"] += _bytes(attention)
            counted.update(attention.modules())
        for layer in moe_layers(block):
            routed = {*layer.router.modules(), *layer.experts.modules()}
            size, distinct = _experts(layer, batch)
            read.append(distinct)
            parts["experts"] += size
            parts["router"] += _bytes(layer.router)
            parts["shared"] += _bytes(layer.module, routed)
            counted.update(layer.module.modules())
        parts["other"] += _bytes(block, counted)
    parts["other"] += _bytes(cast(nn.Module, lm.base_model.norm))
    parts["head"] = _bytes(cast(nn.Module, lm.lm_head))
    embedding = lm.get_input_embeddings()
    parts["embedding"] = batch * sum(p[0].nbytes for p in embedding.parameters())
    parts["cache"] = cache_bytes * (context + 1)
    return Traffic(dict(parts), sum(read) / len(read) if read else 0.0)


def _bytes(module: nn.Module, without: set[nn.Module] | None = None) -> int:
    return sum(_stored(tensor) for tensor in _tensors(module, without or set()))


def _tensors(module: nn.Module, without: set[nn.Module]) -> Iterator[Tensor]:
    """Parameters and buffers, where packed ones lie, and semi-structured matrices."""
    for child in module.modules():
        if child not in without:
            held = (*child._parameters.values(), *child._buffers.values())
            yield from (tensor for tensor in held if tensor is not None)
            if isinstance(child, SparseBank):
                yield from child.matrices


def _stored(tensor: Tensor) -> int:
    """Bytes that are there: a semi-structured tensor says its dense shape, and holds others."""
    if not isinstance(tensor, SparseSemiStructuredTensor):
        return tensor.nbytes
    names, _ = tensor.__tensor_flatten__()
    return sum(getattr(tensor, name).nbytes for name in names)


def _experts(layer: MoELayer, batch: int) -> tuple[int, float]:
    """Bytes of the routed experts a step reads, and how many they are."""
    if not isinstance(layer.experts, Experts):
        read = layer.count * _visited(layer.top_k / layer.count, batch)
        return round(_bytes(layer.experts) / layer.count * read), read
    chances = _chances(layer.experts, layer.router, layer.top_k)
    size = read = 0.0
    for bank, numbers in zip(layer.experts.banks, layer.experts.bank_numbers, strict=True):
        visits = sum(_visited(chances[number], batch) for number in numbers)
        size += _bytes(bank) / len(numbers) * visits
        read += visits
    return round(size), read


def _visited(chance: float, batch: int) -> float:
    """The chance that at least one of the tokens visits an expert."""
    return float(1 - (1 - min(chance, 1.0)) ** batch)


def _chances(experts: Experts, router: nn.Module, top_k: int) -> dict[int, float]:
    """For each expert the chance that a token is computed by it."""
    open_rows = list(experts.rows)
    if isinstance(router, MaskedRouter):
        # Rows that are masked are never chosen; others that lead nowhere are.
        kept = router.kept.tolist()
        open_rows = [row for row, is_kept in zip(open_rows, kept, strict=True) if is_kept]
    rows, chosen = len(open_rows), min(top_k, len(open_rows))
    leading = sum(row != NOWHERE for row in open_rows) / rows
    scale = experts.share / leading if experts.partial and leading else 1.0
    return {
        # Not one of the rows that lead to it is among those chosen.
        number: scale * (1 - comb(rows - open_rows.count(number), chosen) / comb(rows, chosen))
        for number in experts.base_numbers
    }
