"""lm-eval's results and samples as the record keeps them."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.records.record import Item, TaskResult

if TYPE_CHECKING:
    from lm_eval.api.task import Task

Sample = dict[str, Any]
"""The log of lm-eval for one item and one filter."""


@dataclass(frozen=True)
class Guessing:
    """The score that some items give without being read."""

    chance: float | None
    """Expected accuracy of a uniform guess; None unless all items have choices."""
    majority: float | None
    """Accuracy of the commonest gold position; None where an item has several golds."""


def task_result(
    name: str,
    results: Mapping[str, Any],
    tasks: Sequence[Task],
    *,
    guessing: Guessing,
    seconds: float,
) -> TaskResult:
    """One task's, or one group's, row.

    Args:
        name: The task or group in `results`.
        results: As `lm_eval.evaluator.evaluate` returns them, with samples.
        tasks: The task, or the group's tasks.
        guessing: On the same items.
        seconds: Wall time.

    Raises:
        UserError: a metric is not finite.
    """
    samples = {task.task_name: _first_filter(results["samples"][task.task_name]) for task in tasks}
    metrics, stderr = _metrics(results["results"][name])
    for metric, value in metrics.items():
        if not math.isfinite(value):
            raise UserError(
                f"{name}: lm-eval's {metric} is {value}; the model overflows in its dtype or has "
                "broken weights."
            )
    return TaskResult(
        task=name,
        version=str(results["versions"].get(name)),
        items=sum(map(len, samples.values())),
        shots=max(int(results["n-shot"].get(task.task_name) or 0) for task in tasks),
        metrics=metrics,
        stderr=stderr,
        chance=guessing.chance,
        majority=guessing.majority,
        data=_provenance(tasks, samples),
        seconds=seconds,
    )


def _metrics(row: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    metrics: dict[str, float] = {}
    stderr: dict[str, float] = {}
    for key, value in row.items():
        if "," not in key or not isinstance(value, int | float):
            continue
        metric, rule = key.split(",", 1)
        kept = stderr if metric.endswith("_stderr") else metrics
        if kept is stderr and not math.isfinite(value):
            continue  # as lm-eval's own "N/A": of too few items for one
        metric = metric.removesuffix("_stderr")
        kept[metric if rule == "none" else f"{metric},{rule}"] = float(value)
    return metrics, stderr


def _provenance(tasks: Sequence[Task], samples: Mapping[str, Sequence[Sample]]) -> str:
    digest = hashlib.sha256()
    for task in tasks:
        for sample in samples[task.task_name]:
            digest.update(f"{task.task_name} {sample['doc_hash']}\n".encode())
    hub_ids = sorted({str(task.DATASET_PATH) for task in tasks})
    configs = sorted({str(task.DATASET_NAME) for task in tasks if task.DATASET_NAME})
    named = configs[0] if len(configs) == 1 else f"{len(configs)} configs" if configs else ""
    return f"{', '.join(hub_ids)} {named}".strip() + f" sha256:{digest.hexdigest()}"


def _first_filter(samples: Sequence[Sample]) -> list[Sample]:
    """One sample per item: a task with two filters logs every item twice."""
    return [s for s in samples if s["filter"] == samples[0]["filter"]]


def guess(items: Sequence[tuple[Task, Any]]) -> Guessing:
    """Chance and majority over items, each a task and one of its documents.

    Raises:
        UserError: an item lacks a field, or its right answer is none of its choices.
    """
    if any(task.OUTPUT_TYPE != "multiple_choice" for task, _ in items):
        return Guessing(None, None)
    sizes, golds = zip(*(_answer(task, doc) for task, doc in items), strict=True)
    chance = sum(1 / size for size in sizes) / len(sizes)
    if None in golds:
        return Guessing(chance, None)
    return Guessing(chance, Counter(golds).most_common(1)[0][1] / len(golds))


def _answer(task: Task, doc: Any) -> tuple[int, int | None]:
    """The number of choices and the right one's position, where lm-eval finds it.

    The position is None where several are right.
    """
    try:
        choices = task.doc_to_choice(doc)
        gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{task.task_name}: cannot make an item of {str(doc)[:80]} ({error!r}); check the "
            f"split {_split(task)!r} of its data set."
        ) from error
    if isinstance(gold, list):
        return len(choices), None
    position = choices.index(gold) if gold in choices else gold
    if not isinstance(position, int) or not 0 <= position < len(choices):
        raise UserError(
            f"{task.task_name}: the right answer of {str(doc)[:80]} is {gold!r}, none of its "
            f"{len(choices)} choices; check the split {_split(task)!r} of its data set."
        )
    return len(choices), position


def _split(task: Task) -> str:
    return str(task.config.test_split or task.config.validation_split)


def items(task: Task, samples: Sequence[Sample]) -> list[Item]:
    """The outcome of every item of one task, filters merged.

    Raises:
        UserError: a log-likelihood is not finite.
    """
    merged: dict[int, Item] = {}
    for sample in samples:
        number = sample["doc_id"]
        if number in merged:
            metrics = {**merged[number].metrics, **_item_metrics(sample)}
            merged[number] = merged[number].model_copy(update={"metrics": metrics})
        else:
            merged[number] = _item(task, sample)
    return list(merged.values())


def _item(task: Task, sample: Sample) -> Item:
    common = {
        "task": task.task_name,
        "item": sample["doc_hash"],
        "prompt": sample["prompt_hash"],
        "metrics": _item_metrics(sample),
    }
    if task.OUTPUT_TYPE == "generate_until":
        return Item(**common, answer=str(sample["filtered_resps"][0]))
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return Item(**common, loglikelihoods=_finite(task, sample, sample["filtered_resps"]))
    values, greedy = zip(*sample["filtered_resps"], strict=True)
    return Item(**common, loglikelihoods=_finite(task, sample, values), greedy=list(greedy))


def _finite(task: Task, sample: Sample, values: Sequence[float]) -> list[float]:
    if not all(map(math.isfinite, values)):
        raise UserError(
            f"{task.task_name}: the log-likelihoods of item {sample['doc_id']} are not finite "
            f"({', '.join(map(str, values))}); the model overflows in its dtype or has broken "
            f"weights."
        )
    return list(values)


def _item_metrics(sample: Sample) -> dict[str, float]:
    """The item's own numbers; what lm-eval aggregates from pairs is left to the task's row."""
    rule = sample["filter"]
    return {
        name if rule == "none" else f"{name},{rule}": float(sample[name])
        for name in sample["metrics"]
        if isinstance(sample[name], int | float)
    }
