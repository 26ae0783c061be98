"""Our counterpart of a published number: its value in the paper's unit, and how sure it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.papers.published import Column, Table
from harness.records.protocol import Protocol
from harness.records.record import Record

GIB = 2**30
MASKED = 0.01
"""Models have some zeros of their own; weight pruning leaves far more."""


@dataclass(frozen=True)
class Counterpart:
    """One number of ours beside one of a paper's."""

    value: float | None = None
    """In the paper's unit; None where no record has it."""
    error: float = 0.0
    """Standard error in the same unit; 0 for what is counted, not sampled."""
    obstacle: str = ""
    """Why the two cannot be compared; nothing where they can."""


Measure = tuple[float, float]
"""Value and standard error of one record."""


def counterpart(
    column: Column,
    table: Table,
    records: Sequence[Record],
    baselines: Sequence[Record],
    protocol: Protocol,
) -> Counterpart:
    """What our records say about one column of a published table.

    Args:
        column: The column, which says metric and unit.
        table: The table, whose columns say what its averages are over.
        records: Of our row, all its seeds, ok.
        baselines: Of the same model's baseline, ok; may be empty.
        protocol: The one of these records.
    """
    if column.metric in ("acc", "acc_norm"):
        scores = [_score(record, str(column.task), column.metric) for record in records]
        return _sampled(scores, protocol, f"task set: {column.task} was not measured")
    if column.metric == "average":
        parts = _parts(table)
        missing = _missing(parts, records)
        return _sampled([_average(record, parts) for record in records], protocol, missing)
    if column.metric == "difference":
        return _difference(column, table, records, baselines, protocol)
    if column.metric == "share":
        return _share(column, records, baselines)
    return _unlike(column, records, protocol)


def _score(record: Record, task: str, metric: str) -> Measure | None:
    """In percent; acc where a task defines no acc_norm is the table's own business."""
    result = record.tasks.get(task)
    if result is None or metric not in result.metrics:
        return None
    value = result.metrics[metric]
    closed = math.sqrt(max(value * (1 - value), 0.0) / max(result.items, 1))
    return 100 * value, 100 * result.stderr.get(metric, closed)


def _parts(table: Table) -> list[tuple[str, str]]:
    """The tasks and metrics behind a table's averages: its own columns, else the paper's tasks."""
    own = [(c.task, c.metric) for c in table.columns.values() if c.metric in ("acc", "acc_norm")]
    return [(str(task), metric) for task, metric in own] or [(t, "acc") for t in table.paper.tasks]


def _missing(parts: Iterable[tuple[str, str]], records: Iterable[Record]) -> str:
    found = list(records)
    absent = [task for task, metric in parts if not all(_score(r, task, metric) for r in found)]
    return f"task set: {', '.join(absent)} not measured" if absent else ""


def _average(record: Record, parts: Sequence[tuple[str, str]]) -> Measure | None:
    """Unweighted; the tasks' items are different ones, so their errors are independent."""
    scores = [_score(record, task, metric) for task, metric in parts]
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return None
    return statistics.fmean(v for v, _ in known), math.hypot(*(e for _, e in known)) / len(known)


def _sampled(measures: Sequence[Measure | None], protocol: Protocol, missing: str) -> Counterpart:
    """The mean over seeds.

    Seeds share their items: more seeds leave the items' error as it is, and add the error of
    their own mean.
    """
    known = [measure for measure in measures if measure is not None]
    if not known:
        return Counterpart(obstacle=missing or "metric: not measured")
    values = [value for value, _ in known]
    spread = statistics.variance(values) / len(values) if len(values) > 1 else 0.0
    error = math.sqrt(statistics.fmean(error**2 for _, error in known) + spread)
    return Counterpart(statistics.fmean(values), error, _shots(protocol))


def _shots(protocol: Protocol) -> str:
    if protocol.limit is not None:
        return f"limit: {protocol.limit} items per task"
    return "" if protocol.shots == 0 else "shots: the paper's are zero"


def _difference(
    column: Column,
    table: Table,
    records: Sequence[Record],
    baselines: Sequence[Record],
    protocol: Protocol,
) -> Counterpart:
    """What was lost against the baseline.

    Its error takes the two models' items as independent; they are the same, so it is an upper
    bound.
    """
    parts = _parts(table) if column.task is None else [(column.task, "acc")]
    if not baselines or (missing := _missing(parts, [*records, *baselines])):
        return Counterpart(obstacle=missing if baselines else "metric: the baseline has no record")
    whole = _sampled([_average(record, parts) for record in baselines], protocol, "")
    ours = _sampled([_average(record, parts) for record in records], protocol, "")
    if whole.value is None or ours.value is None:
        return Counterpart(obstacle="metric: not measured")
    lost = whole.value - ours.value
    unsaid = "" if column.unit == "points" else "metric: percent or points is not said"
    # A change of one task is printed with its sign, a loss without.
    value = -lost if column.task is not None else lost
    return Counterpart(value, math.hypot(whole.error, ours.error), unsaid or ours.obstacle)


_COUNTS = {"expert parameters removed": "expert_parameters", "of all parameters": "parameters"}
"""By what the column means, the field of a record's size."""


def _share(column: Column, records: Sequence[Record], baselines: Sequence[Record]) -> Counterpart:
    field = _COUNTS.get(column.meaning)
    if field is None:
        return Counterpart(obstacle="metric: no record has it")
    sizes = [float(getattr(record.size, field)) for record in records if record.size]
    whole = [float(getattr(record.size, field)) for record in baselines if record.size]
    if not sizes or not whole:
        return Counterpart(obstacle="metric: size was not measured")
    if sizes == whole * len(sizes) and any(map(_masked, records)):
        return Counterpart(obstacle="metric: weights set to zero count as parameters here")
    return Counterpart(100 * (1 - statistics.fmean(sizes) / whole[0]))


def _masked(record: Record) -> bool:
    """Whether much of the model is zero, as weight pruning leaves it."""
    size = record.size
    if size is None or size.nonzero_parameters is None:
        return False
    return size.nonzero_parameters < (1 - MASKED) * size.parameters


def _unlike(column: Column, records: Sequence[Record], protocol: Protocol) -> Counterpart:
    """Numbers that stand side by side only."""
    if column.metric == "perplexity":
        # A protocol of short windows comes nearest to the papers' numbers, where it was measured.
        names = sorted(protocol.perplexity, key=lambda name: not name.endswith("-128"))
        near = [name for name in names if name.startswith(column.name.lower())]
        values = [r.perplexity[near[0]].value for r in records if near and near[0] in r.perplexity]
        measured = f"; ours is {near[0]}" if values else ""
        return _beside(values, f"perplexity protocol unknown{measured}")
    if column.metric == "memory":
        peaks = [r.memory_running.torch_peak for r in records if r.memory_running]
        return _beside([peak / GIB for peak in peaks if peak], "hardware: and what was counted")
    ratios = [record.speed.decode.speedup for record in records if record.speed]
    return _beside(ratios, "hardware: and lengths and batch")


def _beside(values: Sequence[float], obstacle: str) -> Counterpart:
    return Counterpart(statistics.fmean(values) if values else None, 0.0, obstacle)
