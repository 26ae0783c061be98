"""Multiply-accumulates of one forward pass by formula, to check the counted ones against.

With L tokens, per block:

    attention   L x (weights of the projections: q, k, v, o, or the low-rank ones of MLA)
    scores      L x L x heads x (query-key dimension + value dimension)
    router      L x experts x hidden size
    experts     L x top-k x (weights of one expert; their mean where experts differ)
    shared      L x (weights of the shared experts and of their gate)
    dense       L x (weights of the MLP, in a block without an MoE layer)

and once, `head`: L x vocabulary x hidden size. Nothing else multiplies matrices. Biases, norms,
activations, rotary embeddings and the softmax are not counted.
"""

from __future__ import annotations

from collections import Counter
from typing import cast

from torch import nn
from transformers import PreTrainedModel

from harness.measure.moe_layers import MoELayer, decoder_layers, moe_layers
from harness.model.layers.packed import PackedLinear


def analytic_macs(lm: PreTrainedModel, tokens: int) -> Counter[str]:
    """Multiply-accumulates of one sequence of `tokens` tokens, by part of the model.

    Reads shapes only; works on the meta device.
    """
    macs: Counter[str] = Counter()
    for block in decoder_layers(lm):
        macs.update(_block(block, tokens))
    macs["head"] = tokens * cast(nn.Linear, lm.lm_head).weight.numel()
    return macs


def _block(block: nn.Module, tokens: int) -> Counter[str]:
    macs: Counter[str] = Counter()
    attention = cast(nn.Module, getattr(block, "self_attn", None) or nn.Module())
    counted: set[nn.Module] = set(attention.modules())
    macs["attention"] = tokens * _weights(attention)
    macs["scores"] = tokens * tokens * _score_width(attention)
    for layer in moe_layers(block):
        macs.update(_moe(layer, tokens))
        counted.update(layer.module.modules())
    macs["dense"] = tokens * _weights(block, counted)
    return macs


def _moe(layer: MoELayer, tokens: int) -> dict[str, int]:
    routed = {*layer.router.modules(), *layer.experts.modules()}
    return {
        "router": tokens * sum(p.numel() for p in layer.router.parameters() if p.dim() == 2),
        "experts": layer.macs(tokens),
        "shared": tokens * _weights(layer.module, routed),
    }


def _weights(module: nn.Module, without: set[nn.Module] | None = None) -> int:
    """Weights of the linear layers under `module`, each multiplied once per token."""
    linear = (m for m in module.modules() if isinstance(m, nn.Linear | PackedLinear))
    return sum(m.in_features * m.out_features for m in linear if m not in (without or ()))


def _score_width(attention: nn.Module) -> int:
    """Summed over heads, the query-key dimension (scores) plus the value dimension (mixing).

    Read off the projections: q puts out heads x query-key, o takes in heads x value. Grouped
    queries change neither, for each query head meets its group's keys in full.
    """
    query = getattr(attention, "q_b_proj", None) or getattr(attention, "q_proj", None)
    output = getattr(attention, "o_proj", None)
    if query is None or output is None:
        return 0
    return int(query.out_features + output.in_features)
