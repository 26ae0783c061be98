"""Records of runs that never were, in a results folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.records.protocol import Protocol
from harness.records.record import (
    Item,
    ModelInfo,
    PerplexityResult,
    Record,
    Size,
    StepInfo,
    TaskResult,
)
from harness.records.store import Plan, PlannedCell, Store

ITEMS = 1000
"""Per task."""


def record(
    row: str,
    scores: Mapping[str, float],
    *,
    protocol: Protocol,
    ref: str = "mistralai/Mixtral-8x7B-v0.1",
    family: str = "mixtral",
    seed: int = 0,
    norm: Mapping[str, float] | None = None,
    perplexity: float | None = None,
    parameters: int = 1000,
    sha256: str = "",
    **fields: Any,
) -> Record:
    """A record with these accuracies, fractions; its id tells row, model and seed."""
    tasks = {
        task: _result(task, {"acc": acc, **({"acc_norm": norm[task]} if norm else {})})
        for task, acc in scores.items()
    }
    texts = {name: _perplexity(name, perplexity) for name in protocol.perplexity if perplexity}
    size = Size(
        parameters=2 * parameters,
        expert_parameters=parameters,
        active_parameters=parameters,
        nonzero_parameters=2 * parameters,
        resident_bytes=4 * parameters,
        artifact_bytes=4 * parameters,
    )
    step = StepInfo(method="eep", options={})
    values = {
        "cell": f"{ref}-{row}-{seed}".replace("/", "-").replace(" ", "-"),
        "suite": "mine",
        "row": row,
        "status": "ok",
        "model": ModelInfo(ref=ref, family=family, sha256=sha256 or ref, label=ref),
        "recipe": [] if row == "baseline" else [step],
        "seed": seed,
        "protocol": protocol.sha256,
        "tasks": tasks,
        "perplexity": texts,
        "size": size,
        "created": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        **fields,
    }
    return Record.model_validate(values)


def items(right: Sequence[bool], task: str = "boolq") -> list[Item]:
    return [
        Item(task=task, item=f"i{place}", prompt=f"p{place}", metrics={"acc": float(outcome)})
        for place, outcome in enumerate(right)
    ]


def store(
    folder: Path,
    protocol: Protocol,
    records: Sequence[tuple[Record, Sequence[Item]]],
    *,
    suite: str = "",
    unfinished: Sequence[tuple[str, str]] = (),
) -> Store:
    """A results folder; `unfinished` are the rows and models of cells without a record."""
    results = Store(folder)
    cells = [PlannedCell(id=r.cell, model=r.model.ref, row=r.row, seed=r.seed) for r, _ in records]
    cells += [PlannedCell(id=row, model=ref, row=row, seed=0) for row, ref in unfinished]
    results.begin(Plan(suite="mine", title="", protocol=protocol, cells=tuple(cells)), suite)
    for written, outcomes in records:
        results.write(written, outcomes)
    return results


def _result(task: str, metrics: dict[str, float]) -> TaskResult:
    stderr = {name: (value * (1 - value) / ITEMS) ** 0.5 for name, value in metrics.items()}
    return TaskResult(
        task=task,
        version="1.0",
        items=ITEMS,
        shots=0,
        metrics=metrics,
        stderr=stderr,
        data="d",
        seconds=1.0,
    )


def _perplexity(name: str, value: float) -> PerplexityResult:
    return PerplexityResult(
        text=name, value=value, tokens=1, windows=1, length=1, data="d", seconds=1.0
    )
