"""How much of a model a record's edits took away, in experts, MoE layers or blocks.

An expert that was merged into another counts as removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.records.record import Record

Unit = Literal["experts", "layers", "blocks"]


@dataclass(frozen=True)
class Removed:
    """What one record lost."""

    unit: Unit
    count: float
    """Experts per MoE layer on average; MoE layers; blocks."""
    of: int | None
    """How many the model had (the largest layer's experts); None where no record says so."""


def experts_of(records: Iterable[Record]) -> dict[str, dict[int, int]]:
    """A model's sha256 to its MoE blocks and their experts, as calibration counted them."""
    found: dict[str, dict[int, int]] = {}
    for record in records:
        for step in record.recipe[:1]:
            if step.calibration and step.calibration.tokens_per_expert:
                counted = step.calibration.tokens_per_expert
                layers = {block: len(tokens) for block, tokens in counted.items()}
                found[record.model.sha256] = {**found.get(record.model.sha256, {}), **layers}
    return found


def removed(record: Record, layers: dict[int, int]) -> Removed | None:
    """What a recipe of one step removed; None if it did anything else, or nothing.

    Args:
        record: With its edits.
        layers: The model's MoE blocks and their experts; empty where unknown.
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
