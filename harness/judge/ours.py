"""Counterparts of published numbers: our values in the papers' units, and how sure they are."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.intervals import (
    error_of_difference,
    error_of_mean,
    error_of_share,
    error_over_seeds,
)
from harness.papers.published import PrintedColumn, PrintedTable
from harness.records.comparing import different, task_data, text_data
from harness.records.protocol import Protocol
from harness.records.record import Record, TaskResult

GIB = 2**30
MASKED = 0.01
"""Share of zeros from which a model counts as masked: others have some zeros of their own too."""


@dataclass(frozen=True)
class Counterpart:
    """One number of ours beside one of a paper's."""

    value: float | None = None
    """In the paper's unit; None where no record has it."""
    error: float = 0.0
    """Standard error in the same unit; 0 for what is counted, not sampled."""
    obstacle: str = ""
    """The reason why the two cannot be compared; nothing where they can."""


Estimate = tuple[float, float]
"""Value of one record, in percent, and its standard error."""


def counterpart(
    column: PrintedColumn,
    table: PrintedTable,
    records: Sequence[Record],
    baselines: Sequence[Record],
    protocol: Protocol,
) -> Counterpart:
    """Return what our records say about one column of a published table.

    Args:
        column: The column, which says metric and unit.
        table: The table, whose columns say what its averages are over.
        records: Records of our row, all its seeds; all are ok.
        baselines: Records of the same model's baseline; all are ok, and there may be none.
        protocol: The protocol of these records.
    """
    if (mixed := _mixed(column, table, records, baselines)) is not None:
        return mixed
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


def _mixed(
    column: PrintedColumn,
    table: PrintedTable,
    records: Sequence[Record],
    baselines: Sequence[Record],
) -> Counterpart | None:
    """The obstacle that the records were evaluated on different data; None where they were not."""
    parts = {
        "acc": [str(column.task)],
        "acc_norm": [str(column.task)],
        "average": [task for task, _ in _parts(table)],
        "difference": [column.task] if column.task else [task for task, _ in _parts(table)],
    }
    tasks = parts.get(column.metric, [])
    beside = [*records, *baselines] if column.metric == "difference" else records
    names = different(task_data(record, task=task) for task in tasks for record in beside)
    if not names:
        return None
    return Counterpart(obstacle=f"data: the records were evaluated on different {', '.join(names)}")


def error_of_score(result: TaskResult, metric: str) -> float:
    """Standard error of a metric of one task, 0..1: lm-eval's, or the binomial's without one."""
    own = result.stderr.get(metric)
    return error_of_share(result.metrics[metric], result.items) if own is None else own


def _score(record: Record, task: str, metric: str) -> Estimate | None:
    """A task's score in percent; acc where a task defines no acc_norm is the table's business."""
    result = record.tasks.get(task)
    if result is None or metric not in result.metrics:
        return None
    return 100 * result.metrics[metric], 100 * error_of_score(result, metric)


def _parts(table: PrintedTable) -> list[tuple[str, str]]:
    """The tasks and metrics behind a table's averages: its own columns, else the paper's tasks."""
    own = [(c.task, c.metric) for c in table.columns.values() if c.metric in ("acc", "acc_norm")]
    return [(str(task), metric) for task, metric in own] or [(t, "acc") for t in table.paper.tasks]


def _missing(parts: Sequence[tuple[str, str]], records: Sequence[Record]) -> str:
    """The obstacle that some of the parts were not measured; nothing where all were."""
    absent = [task for task, metric in parts if not all(_score(r, task, metric) for r in records)]
    return f"task set: {', '.join(absent)} not measured" if absent else ""


def _average(record: Record, parts: Sequence[tuple[str, str]]) -> Estimate | None:
    """Unweighted mean of scores; tasks have items of their own, so the errors are independent."""
    scores = [_score(record, task, metric) for task, metric in parts]
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return None
    return statistics.fmean(v for v, _ in known), error_of_mean([e for _, e in known])


def _sampled(estimates: Sequence[Estimate | None], protocol: Protocol, missing: str) -> Counterpart:
    """The mean over seeds, with its error by items and by seeds."""
    known = [estimate for estimate in estimates if estimate is not None]
    if not known:
        return Counterpart(obstacle=missing or "metric: not measured")
    values = [value for value, _ in known]
    error = error_over_seeds(values, [error for _, error in known])
    return Counterpart(statistics.fmean(values), error, _shots(protocol))


def _shots(protocol: Protocol) -> str:
    """The obstacle that other items or prompts were asked than the papers'; nothing else."""
    if protocol.limit is not None:
        return f"limit: {protocol.limit} items per task"
    return "" if protocol.shots == 0 else "shots: the paper's are zero"


def _difference(
    column: PrintedColumn,
    table: PrintedTable,
    records: Sequence[Record],
    baselines: Sequence[Record],
    protocol: Protocol,
) -> Counterpart:
    """Accuracy lost against the baseline, in points.

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
    return Counterpart(value, error_of_difference(whole.error, ours.error), unsaid or ours.obstacle)


_COUNTS = {"expert parameters removed": "expert_parameters", "of all parameters": "parameters"}
"""Fields of a record's size, by what a column means."""


def _share(
    column: PrintedColumn, records: Sequence[Record], baselines: Sequence[Record]
) -> Counterpart:
    """Share of the parameters that were removed, in percent."""
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
    """True if much of the model is zero, as weight pruning leaves it."""
    size = record.size
    if size is None or size.nonzero_parameters is None:
        return False
    return size.nonzero_parameters < (1 - MASKED) * size.parameters


def _unlike(column: PrintedColumn, records: Sequence[Record], protocol: Protocol) -> Counterpart:
    """A number that may stand beside the paper's and cannot be compared with it."""
    if column.metric == "perplexity":
        # A protocol of short windows comes nearest to the papers' numbers, where it was measured.
        names = sorted(protocol.perplexity, key=lambda name: not name.endswith("-128"))
        near = [name for name in names if name.startswith(column.name.lower())]
        values = [r.perplexity[near[0]].value for r in records if near and near[0] in r.perplexity]
        if near and different(text_data(record, text=near[0]) for record in records):
            values = []
        measured = f"; ours is {near[0]}" if values else ""
        if values and protocol.windows is not None:
            measured += f", its first {protocol.windows} windows"
        return _beside(values, f"perplexity text unknown{measured}")
    if column.metric == "memory":
        peaks = [r.memory_running.torch_peak for r in records if r.memory_running]
        return _beside([peak / GIB for peak in peaks if peak], "hardware: and what was counted")
    ratios = [record.speed.decode.speedup for record in records if record.speed]
    return _beside(ratios, "hardware: and lengths and batch")


def _beside(values: Sequence[float], obstacle: str) -> Counterpart:
    """The mean of our values, if there are any, with what stands in the way."""
    return Counterpart(statistics.fmean(values) if values else None, 0.0, obstacle)
