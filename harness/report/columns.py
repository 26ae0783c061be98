"""Columns of a leaderboard: its numbers, and where in a record each is read."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from harness.records.comparing import Data, task_data, text_data
from harness.records.protocol import Protocol
from harness.records.record import (
    Flops,
    Memory,
    PerplexityResult,
    Record,
    Roofline,
    Size,
    Stock,
    Throughput,
    Timing,
)
from harness.report.board import Column, ValueReader

TITLES = {
    "arc_challenge": "ARC-c",
    "arc_easy": "ARC-e",
    "boolq": "BoolQ",
    "gsm8k": "GSM8K",
    "hellaswag": "HellaSwag",
    "mmlu": "MMLU",
    "openbookqa": "OBQA",
    "piqa": "PIQA",
    "rte": "RTE",
    "winogrande": "WinoGrande",
}
"""Titles of tasks as papers print them; any other task keeps lm-eval's name."""

AVERAGE = "average"
DELTA = "average.delta"
KEPT = "average.kept"
PREFILL = "speed.prefill.speedup"
DECODE = "speed.decode.speedup"
LOOP = "speed.stock.loop"
STOCK = "speed.stock.fastest"
ROOFLINE = "speed.roofline.reached"
ENERGY = "speed.decode.joules"
THROUGHPUT = "throughput.speedup"


def accuracy(task: str) -> str:
    """Return the key of the column with the accuracy of `task`."""
    return f"{task}.acc"


def average(record: Record, protocol: Protocol) -> float | None:
    """Return the mean acc (0..1) over the protocol's average tasks; None when one is missing."""
    scores = [_metric(record, task=task, metric="acc") for task in protocol.average]
    values = [score for score in scores if score is not None]
    return statistics.fmean(values) if values and len(values) == len(scores) else None


def average_data(record: Record, protocol: Protocol) -> Data:
    """Return the data behind a record's average."""
    parts = (task_data(record, task=task) for task in protocol.average)
    return {name: digest for data in parts for name, digest in data.items()}


def peak_memory(records: Iterable[Record]) -> Literal["torch_peak", "rss_peak"]:
    """Name the peak that tables show: the accelerator's where it was measured, or the process's."""
    memories = [record.memory_running for record in records if record.memory_running]
    return "torch_peak" if any(m.torch_peak is not None for m in memories) else "rss_peak"


def columns(records: Sequence[Record], protocol: Protocol) -> tuple[Column, ...]:
    """Return the printed columns in their order, then those of the csv alone; all keys differ."""
    distinct: dict[str, Column] = {}
    for column in (*_printed(records, protocol), *_details(records, protocol)):
        distinct.setdefault(column.key, column)
    return tuple(distinct.values())


def _metric(record: Record, *, task: str, metric: str) -> float | None:
    result = record.tasks.get(task)
    return result.metrics.get(metric) if result else None


def _stderr(record: Record, *, task: str, metric: str) -> float | None:
    result = record.tasks.get(task)
    return result.stderr.get(metric) if result else None


def _attribute(record: Record, *, path: tuple[str, ...]) -> float | None:
    """Number at a path of names; a list is read as its median, anything absent as None."""
    value: object = record
    for name in path:
        value = value.get(name) if isinstance(value, dict) else getattr(value, name)
        if value is None:
            return None
    return statistics.median(value) if isinstance(value, list) else float(value)  # type: ignore[arg-type]


def _at(*path: str) -> ValueReader:
    return partial(_attribute, path=path)


def _printed(records: Sequence[Record], protocol: Protocol) -> Iterator[Column]:
    yield from _tasks(records, protocol)
    yield from _averages(protocol)
    for name in protocol.perplexity:
        yield Column(
            f"perplexity.{name}.value",
            f"ppl {name}",
            direction="lower",
            digits=2,
            group="accuracy",
            read=_at("perplexity", name, "value"),
            data=partial(text_data, text=name),
        )
    if "size" in protocol.measure:
        yield _quantity("parameters", "", "size", "parameters")
        yield _quantity("active", "", "size", "active_parameters")
        yield _quantity("artifact", "B", "size", "artifact_bytes")
    if "flops" in protocol.measure:
        yield _quantity("MACs", "", "flops", "macs")
    if "memory" in protocol.measure:
        path = ("memory_running", peak_memory(records))
        yield _quantity("peak memory", "B", *path, measured=True)
    key = "compression_seconds"
    yield Column(key, "compression", "s", "lower", 1, measured=True, read=_at(key))
    if "speed" in protocol.measure:
        yield _speedup("prefill")
        yield _speedup("decode")
        yield from _beside(records)


def _tasks(records: Sequence[Record], protocol: Protocol) -> Iterator[Column]:
    for task in protocol.tasks:
        metric = _headline(records, task)
        if metric is not None:
            yield Column(
                f"{task}.{metric}",
                TITLES.get(task, task),
                direction="higher",
                group="accuracy",
                scale=100.0,
                read=partial(_metric, task=task, metric=metric),
                data=partial(task_data, task=task),
            )


def _headline(records: Iterable[Record], task: str) -> str | None:
    """The task's printed metric: acc, or the first exact_match; None where the csv has all."""
    metrics = {name for r in records if task in r.tasks for name in r.tasks[task].metrics}
    if "acc" in metrics or not metrics:
        return "acc"
    return min((name for name in metrics if name.startswith("exact_match")), default=None)


def _averages(protocol: Protocol) -> Iterator[Column]:
    if not protocol.average:
        return
    common = {"direction": "higher", "group": "accuracy", "scale": 100.0}
    title = f"average of {len(protocol.average)}"
    read = partial(average, protocol=protocol)
    data = partial(average_data, protocol=protocol)
    yield Column(AVERAGE, title, read=read, data=data, **common)  # type: ignore[arg-type]
    yield Column(DELTA, "Δ average", "points", signed=True, **common)  # type: ignore[arg-type]
    yield Column(KEPT, "kept", "%", **common)  # type: ignore[arg-type]


def _quantity(title: str, unit: str, *path: str, measured: bool = False) -> Column:
    key = ".".join(path)
    return Column(key, title, unit, "lower", 4, scale="si", measured=measured, read=_at(*path))


def _speedup(stage: str) -> Column:
    speedup, low, high = (_at("speed", stage, name) for name in ("speedup", "low", "high"))
    return _ratio(f"speed.{stage}.speedup", f"{stage} speed-up", speedup, low, high)


def _beside(records: Sequence[Record]) -> Iterator[Column]:
    """Columns beside our runtime's: stock paths, roofline, energy, EEP's throughput."""
    speeds = [record.speed for record in records if record.speed]
    if any(speed.stock for speed in speeds):
        yield _over(LOOP, "decode over the expert loop", _loop)
        yield _over(STOCK, "decode over the faster stock path", _fastest)
    if any(speed.roofline for speed in speeds):
        yield Column(
            ROOFLINE,
            "roofline",
            "%",
            "higher",
            scale=100.0,
            measured=True,
            read=_at("speed", "roofline", "reached"),
        )
    if any(speed.decode.joules for speed in speeds):
        energy = _at("speed", "decode", "joules")
        yield Column(ENERGY, "energy per token", "J", "lower", 3, measured=True, read=energy)
    if any(record.throughput for record in records):
        low, high = _at("throughput", "low"), _at("throughput", "high")
        column = _ratio(THROUGHPUT, "EEP's speed-up", _at("throughput", "speedup"), low, high)
        yield replace(column, data=_prompts)


def _prompts(record: Record) -> Data:
    return {"EEP's prompts": record.throughput.data} if record.throughput else {}


def _over(key: str, title: str, path: Callable[[Record], Stock | None]) -> Column:
    """Column of our runtime over the baseline in one of transformers' own paths."""
    readers = [partial(_gain, path=path, bound=bound) for bound in ("speedup", "low", "high")]
    return _ratio(key, title, *readers)


def _ratio(key: str, title: str, read: ValueReader, low: ValueReader, high: ValueReader) -> Column:
    return Column(key, title, "ratio", "higher", 2, measured=True, read=read, low=low, high=high)


def _loop(record: Record) -> Stock | None:
    paths = record.speed.stock if record.speed else []
    return next((path for path in paths if path.path == "expert loop"), None)


def _fastest(record: Record) -> Stock | None:
    return record.speed.fastest_stock if record.speed else None


def _gain(record: Record, *, path: Callable[[Record], Stock | None], bound: str) -> float | None:
    stock = path(record)
    return None if stock is None else float(getattr(stock.over_decode, bound))


def _details(records: Sequence[Record], protocol: Protocol) -> Iterator[Column]:
    for task in protocol.tasks:
        yield from _task_details(records, task)
    for name in protocol.perplexity:
        yield from _numbers(PerplexityResult, "perplexity", name)
    yield from _numbers(Size, "size")
    yield from _numbers(Flops, "flops")
    yield from _numbers(Memory, "memory_running", measured=True)
    yield from _numbers(Memory, "memory_compressing", measured=True)
    for stage in ("prefill", "decode"):
        yield from _numbers(Timing, "speed", stage, measured=True)
    for name in ("length", "new_tokens", "batch", "threads"):
        yield _detail("speed", name, measured=True)
    if any(record.speed and record.speed.roofline for record in records):
        yield from _numbers(Roofline, "speed", "roofline", measured=True)
    if any(record.throughput for record in records):
        yield from _numbers(Throughput, "throughput", measured=True)
    for name in ("compression_seconds", "compression_cpu_seconds", "seconds"):
        yield _detail(name, measured=True)


def _task_details(records: Iterable[Record], task: str) -> Iterator[Column]:
    results = [record.tasks[task] for record in records if task in record.tasks]
    for metric in sorted({name for result in results for name in result.metrics}):
        key = f"{task}.{metric}"
        # Of lm-eval's other metrics (perplexities, bits) some are better when lower.
        known = metric.startswith(("acc", "exact_match"))
        yield Column(
            key,
            key,
            direction="higher" if known else "none",
            shown=False,
            read=partial(_metric, task=task, metric=metric),
            data=partial(task_data, task=task),
        )
        stderr = partial(_stderr, task=task, metric=metric)
        yield Column(f"{key}.stderr", key, shown=False, read=stderr)
    for name in ("chance", "majority", "items", "shots"):
        yield Column(f"{task}.{name}", name, shown=False, read=_at("tasks", task, name))
    read = _at("tasks", task, "seconds")
    yield Column(f"{task}.seconds", "seconds", shown=False, measured=True, read=read)


def _numbers(kind: type[BaseModel], *path: str, measured: bool = False) -> Iterator[Column]:
    """Columns for every number of a part of the record, so that new ones appear unasked."""
    for name, info in kind.model_fields.items():
        if _is_number(info.annotation):
            yield _detail(*path, name, measured=measured or name == "seconds")


def _is_number(annotation: object) -> bool:
    """True for a number, in a range or not, for one that may be None, and for a list of them."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated or origin is list:
        return _is_number(inner[0])
    if origin in (Union, UnionType):
        return all(part is NoneType or _bare(part) in (int, float) for part in inner)
    return annotation in (int, float)


def _bare(annotation: object) -> object:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _detail(*path: str, measured: bool) -> Column:
    key = ".".join(path)
    return Column(key, key, shown=False, measured=measured, read=_at(*path))
