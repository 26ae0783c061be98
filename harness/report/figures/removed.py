"""Amount of a model that a record's edits took away, in experts, MoE layers or blocks.

An expert that was merged into another counts as removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.records.record import Record

RemovedUnit = Literal["experts", "layers", "blocks"]


@dataclass(frozen=True)
class Removed:
    """Amount that one record's model lost."""

    unit: RemovedUnit
    count: float
    """Number of experts per MoE layer (on average), of MoE layers, or of blocks."""
    of: int | None
    """Number that the model had (the largest layer's experts); None where no record says so."""


def experts_of(records: Iterable[Record]) -> dict[str, dict[int, int]]:
    """Return the MoE blocks of models and their numbers of experts, by the model's sha256.

    They are as calibration counted them.
    """
    experts: dict[str, dict[int, int]] = {}
    for record in records:
        for step in record.recipe[:1]:
            if step.calibration and step.calibration.tokens_per_expert:
                counted = step.calibration.tokens_per_expert
                layers = {block: len(tokens) for block, tokens in counted.items()}
                known = experts.get(record.model.sha256, {})
                experts[record.model.sha256] = {**known, **layers}
    return experts


def removed(record: Record, layers: dict[int, int]) -> Removed | None:
    """Return what a recipe of one step removed; None if it did anything else, or nothing.

    Args:
        record: A record with its edits.
        layers: The model's MoE blocks and their numbers of experts; empty where unknown.
    """
    kinds = {edit["kind"] for edit in record.edits}
    if len(record.recipe) != 1 or not kinds:
        return None
    if kinds == {"drop_block"}:
        return Removed("blocks", len(record.edits), None)
    if kinds == {"drop_moe"}:
        return Removed("layers", len(record.edits), len(layers) or None)
    if kinds <= {"keep_experts", "merge_experts", "drop_moe"} and layers:
        left = dict(layers)
        for edit in record.edits:
            left[edit["block"]] = len(edit.get("experts", edit.get("groups", ())))
        gone = sum(layers.values()) - sum(left.values())
        return Removed("experts", gone / len(layers), max(layers.values()))
    return None
