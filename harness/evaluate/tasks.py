"""Tasks through lm-eval: its definitions, prompts and metrics, in this process, on model objects.

Importing this module imports neither torch nor lm-eval.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.data import DataRoot
from harness.errors import UserError
from harness.evaluate import results as kept
from harness.evaluate.lm_eval_tasks import known_tasks, load, quiet, seeded
from harness.records.record import Item, TaskResult

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from harness.evaluate.scorer import PrefixLM

__all__ = ["OnProgress", "evaluate_tasks", "known_tasks"]

OnProgress = Callable[[str, int, int], None]
"""Called with a task or a text, how much of it is done, and of how much."""

_log = logging.getLogger(__name__)

BOOTSTRAP = 1000
"""Draws for the standard error of metrics without a closed form; acc and exact_match have one."""


def evaluate_tasks(
    lm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    data: DataRoot,
    shots: int | None = 0,
    limit: int | None = None,
    batch_size: int = 16,
    progress: OnProgress | None = None,
    shared: bool = True,
) -> tuple[dict[str, TaskResult], list[Item]]:
    """Evaluate a model on tasks.

    Args:
        lm: Any causal transformers model, on its device and in its dtype.
        tokenizer: The model's own.
        tasks: Tasks, groups or tags, as lm-eval spells them. A group with an aggregate ("mmlu")
            gives one result, any other group or a tag one result per task.
        data: Where the tasks' data sets come from.
        shots: Few-shot examples for every task; None leaves each its own default.
        limit: The first items of each (sub)task; None for all.
        batch_size: Sequences per forward pass; see `harness.evaluate.scorer.PrefixLM`.
        progress: Told of every task how many requests are done, and of how many; of lm-eval's
            own ways too, of which generation is one.
        shared: False scores as stock lm-eval does, for comparison.

    Returns:
        Task to its result, and the outcome of every item, once even where two of `tasks` hold it.

    Raises:
        UserError: an unknown task, missing or unreadable data, a tokenizer or a context length
            that a task cannot work with, a log-likelihood that is not finite.
    """
    rows: dict[str, TaskResult] = {}
    items: list[Item] = []
    if not tasks:
        return rows, items
    current = ""

    def told(done: int, of: int) -> None:
        if progress:
            progress(current, done, of)

    with quiet(told), seeded():
        from harness.evaluate.scorer import PrefixLM

        model = PrefixLM(lm, tokenizer, batch_size=batch_size, progress=told, shared=shared)
        for name in dict.fromkeys(tasks):
            current = name
            results, outcomes = _evaluate(model, name, data, shots, limit)
            rows.update(results)
            known = {item.task for item in items}
            items += [item for item in outcomes if item.task not in known]
    return rows, items


def _evaluate(
    model: PrefixLM, name: str, data: DataRoot, shots: int | None, limit: int | None
) -> tuple[dict[str, TaskResult], list[Item]]:
    from lm_eval.evaluator import evaluate

    start, truncated = time.perf_counter(), model.truncated
    loaded = load([name], data, shots)
    tasks, rows = loaded["tasks"], _rows(name, loaded)
    _refuse_unsafe(name, tasks)
    guessing = {row: kept.guess(_docs(members, limit)) for row, members in rows.items()}
    _check_shots(tasks)
    try:
        results = evaluate(model, loaded, limit=limit, bootstrap_iters=BOOTSTRAP)
    except OverflowError:
        raise UserError(
            f"{name}: a perplexity is too large for a number; the model overflows in its dtype or "
            "has broken weights."
        ) from None
    if model.truncated > truncated:
        count = model.truncated - truncated
        _log.warning("%s: %d requests cut to the model's %d tokens", name, count, model.max_length)
    items = [
        item for key, task in tasks.items() for item in kept.items(task, results["samples"][key])
    ]
    seconds = (time.perf_counter() - start) / len(rows)
    return {
        row: kept.task_result(row, results, members, guessing=guessing[row], seconds=seconds)
        for row, members in rows.items()
    }, items


def _check_shots(tasks: Mapping[str, Task]) -> None:
    """Raise a UserError for a task that has fewer examples than shots; lm-eval draws as it goes."""
    for name, task in tasks.items():
        shots = int(task.get_config("num_fewshot") or 0)
        sampler = getattr(task, "sampler", None)
        docs = getattr(sampler, "fewshot_indices", None) or getattr(sampler, "df", None)
        if not shots or not docs:
            continue
        own = task.config.fewshot_split in (task.config.test_split, task.config.validation_split)
        there = len(docs) - own  # an item is never its own example
        if shots > there:
            raise UserError(f"{name}: {shots} shots, and it has {there} examples; ask for fewer.")


def _rows(name: str, loaded: Mapping[str, Any]) -> dict[str, list[Task]]:
    """The results that a name gives, each with its tasks."""
    tasks, group = loaded["tasks"], loaded.get("groups", {}).get(name)
    if group is not None and group.has_aggregation:
        return {name: list(tasks.values())}
    return {key: [task] for key, task in tasks.items()}


def _docs(tasks: Sequence[Task], limit: int | None) -> list[tuple[Task, Any]]:
    return [(task, doc) for task in tasks for _, doc in task.doc_iterator(limit=limit)]


def _refuse_unsafe(name: str, tasks: Mapping[str, Task]) -> None:
    for task in tasks.values():
        if getattr(task, "UNSAFE_CODE", False):
            raise UserError(f"{name} runs code that the model writes; moebench does not.")
        if getattr(task, "MULTIMODAL", False):
            raise UserError(f"{name} needs images or sound, which moebench does not evaluate.")
