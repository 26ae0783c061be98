"""Edits that stand in the way of a format, told before a byte is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import Refused
from harness.export.linears import Linear, linears
from harness.model.editing.surgery import Nothing
from harness.model.edits import QuantizeWeights
from harness.model.quantized.scheme import Scheme
from harness.model.view import Block, MoEModel

_WHY = {
    "drop_moe": "there every block has an MLP or an MoE layer; drop whole blocks",
    "low_rank": "there a matrix is whole, and multiplied out it would be as large as before",
    "skip_experts": "there all chosen experts are computed",
    "merge_experts": "there each router row leads to an expert of its own",
    "keep_experts": (
        "there each router row leads to an expert that may be chosen; "
        'cut the rows (router = "rows")'
    ),
}
_FUSED = (
    ("attention.q", "attention.k", "attention.v"),
    ("attention.q_a", "attention.kv_a_proj_with_mqa"),
    ("shared.gate", "shared.up"),
    ("dense.gate", "dense.up"),
)
"""Matrices that readers hold as one, besides all experts of a block."""


@dataclass(frozen=True)
class Limits:
    """The schemes and parts that a format of quantized weights takes."""

    bits: tuple[int, ...]
    groups: tuple[int, ...]
    """0: one group per row."""
    one_scheme: bool = True
    """One in a checkpoint, or one for each part?"""
    whole_outputs: bool = True
    """Must a matrix's outputs fill int32 words, as its inputs must?"""


def check_structure(model: MoEModel, to: str) -> None:
    """Refuse what no configuration of the family can say, quantized or not.

    Raises:
        Refused: the first edit in the way, by kind and block.
    """
    for block in model.blocks:
        kind = _structural(block)
        if kind is not None:
            raise Refused(f"{to}: {kind} in block {block.index} cannot be exported: {_WHY[kind]}.")
    routed = [block for block in model.blocks if block.experts]
    for block in routed:
        first = routed[0]
        for what, mine, others in (
            ("experts", len(block.experts), len(first.experts)),
            ("experts per token", block.top_k, first.top_k),
        ):
            if mine != others:
                raise Refused(
                    f"{to}: keep_experts leaves {others} {what} in block {first.index} and "
                    f"{mine} in block {block.index}, and a checkpoint has one number of them; "
                    "keep equally many in every block."
                )


def check_plain(model: MoEModel) -> None:
    """Refuse what a checkpoint without quantization cannot hold.

    Raises:
        Refused: packed weights.
    """
    for linear in linears(model):
        if linear.scheme is not None:
            raise Refused(
                f"hf: quantize_weights packs {linear.matrix.name} of block {linear.block}; "
                "export to compressed-tensors, gptq or awq, or dequantise: multiply packed weights "
                "out."
            )


def check_quantized(model: MoEModel, to: str, limits: Limits) -> None:
    """Refuse what a format of quantized weights cannot hold.

    Raises:
        Refused: the edit, or the matrices that have none, in the way.
    """
    layers = list(linears(model))
    if not any(linear.scheme for linear in layers):
        why = "nothing is quantized"
        for edit in model.edits:
            if isinstance(edit, QuantizeWeights) and edit.simulated:
                why = f"quantize_weights with {edit.scheme.bits} bits is only simulated"
        raise Refused(f"{to}: {why}; export to hf.")
    for linear in layers:
        if linear.scheme is not None:
            _check_shape(linear, linear.scheme, to, limits)
    _check_schemes(layers, to, limits)
    for block in model.blocks:
        _check_fused([linear for linear in layers if linear.block == block.index], to)


def _check_shape(linear: Linear, scheme: Scheme, to: str, limits: Limits) -> None:
    where = f"{to}: quantize_weights of {linear.matrix.name} in block {linear.block}"
    for what, value, known in (
        ("bits", scheme.bits, limits.bits),
        ("group", scheme.group, limits.groups),
    ):
        if value not in known:
            raise Refused(f"{where} has {what} = {value}; the format takes {_listed(known)}.")
    outputs, inputs = linear.matrix.shape
    each = 32 // scheme.bits
    if scheme.group and inputs % scheme.group:
        raise Refused(f"{where}: {inputs} inputs are not whole groups of {scheme.group}.")
    if inputs % each or (limits.whole_outputs and outputs % each):
        raise Refused(f"{where}: {outputs} x {inputs} does not fill words of {each} codes.")


def _check_schemes(layers: Sequence[Linear], to: str, limits: Limits) -> None:
    """One scheme in the checkpoint, or in each part of it."""
    first: dict[str, Linear] = {}
    for linear in layers:
        if linear.scheme is None:
            continue
        other = first.setdefault("" if limits.one_scheme else linear.matrix.part, linear)
        if other.scheme != linear.scheme:
            raise Refused(
                f"{to}: quantize_weights has {_said(other)} and {_said(linear)}, and the "
                f"format has one scheme for {'all' if limits.one_scheme else 'each part'}; "
                "quantize them alike."
            )


def _check_fused(layers: Iterable[Linear], to: str) -> None:
    """Refuse parts of one reader's matrix that are not quantized as one."""
    named = {linear.matrix.name: linear for linear in layers}
    experts = [name for name, linear in named.items() if linear.matrix.part == "experts"]
    for names in (experts, *_FUSED):
        together = [named[name] for name in names if name in named]
        for linear in together:
            if (linear.scheme is None) != (together[0].scheme is None):
                does, does_not = sorted([linear, together[0]], key=lambda one: one.scheme is None)
                raise Refused(
                    f"{to}: quantize_weights of block {linear.block} has "
                    f"{does.matrix.name} and not {does_not.matrix.name}, which readers hold as "
                    "one matrix; quantize both or neither."
                )


def _structural(block: Block) -> str | None:
    """The kind of the edit that makes a block one that the stock architecture has not."""
    layer = block.version.structure
    if isinstance(layer.mlp, Nothing):
        return "drop_moe"
    if any(matrix.name.endswith(".u") for matrix in block.matrices()):
        return "low_rank"
    if block.beta is not None:
        return "skip_experts"
    kept = [row for row in block.rows if row >= 0]  # -1: a row that leads to no expert
    if len(set(kept)) < len(kept):
        return "merge_experts"
    return "keep_experts" if len(kept) < len(block.rows) or _masked(block) else None


def _masked(block: Block) -> bool:
    kept = getattr(getattr(block.version.structure.mlp, "gate", None), "kept", None)
    return kept is not None and not bool(kept.all())


def _said(linear: Linear) -> str:
    scheme = linear.scheme
    if scheme is None:
        return f"{linear.matrix.name} whole"
    kind = "symmetric" if scheme.symmetric else "asymmetric"
    return (
        f"{linear.matrix.name} of block {linear.block} at {scheme.bits} bits, group "
        f"{scheme.group}, {kind}"
    )


def _listed(known: Sequence[int]) -> str:
    return ", ".join(map(str, known))
