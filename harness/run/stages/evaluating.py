"""The quality of a model under a protocol: its tasks and its perplexities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.run.job import Say
from harness.run.ticks import Ticks

if TYPE_CHECKING:
    from harness.model.view import MoEModel
    from harness.records.protocol import Protocol
    from harness.records.record import Item, PerplexityResult, TaskResult


def evaluate_tasks(
    model: MoEModel, protocol: Protocol, *, data_root: Path | None, say: Say
) -> tuple[dict[str, TaskResult], list[Item]]:
    """Evaluate a model on the protocol's tasks.

    Args:
        model: The model, opened as the protocol runs it.
        protocol: Names the tasks, shots, limit and batch size.
        data_root: Folder with data sets as the hub lays them out; None for the hub.
        say: Told what is being done.

    Returns:
        The result of each task by its name, and the outcome of every item.

    Raises:
        UserError: as `harness.evaluate.tasks.evaluate_tasks`.
    """
    if not protocol.tasks:
        return {}, []
    from harness.data import DataRoot
    from harness.evaluate.tasks import evaluate_tasks as evaluate

    say("evaluating tasks")
    started: dict[str, Ticks] = {}

    def told(task: str, done: int, of: int) -> None:
        if task not in started:
            place = f"task {1 + protocol.tasks.index(task)} of {len(protocol.tasks)}"
            started[task] = Ticks(say, f"{place}, {task}", "answers")
        started[task](done, of)

    return evaluate(
        model.lm,
        model.tokenizer,
        protocol.tasks,
        data=DataRoot(data_root),
        shots=protocol.shots,
        limit=protocol.limit,
        batch_size=protocol.batch_size,
        progress=told,
    )


def measure_perplexities(
    model: MoEModel, protocol: Protocol, *, data_root: Path | None, say: Say
) -> dict[str, PerplexityResult]:
    """Measure the protocol's perplexities; arguments as `evaluate_tasks`.

    Returns:
        The perplexity of each text by its name.

    Raises:
        UserError: as `harness.evaluate.perplexity.perplexity`.
    """
    from harness.data import DataRoot
    from harness.evaluate.perplexity import perplexity

    results = {}
    for name in protocol.perplexity:
        say(f"measuring perplexity {name}")
        told = Ticks(say, f"measuring perplexity {name}", "windows")
        results[name] = perplexity(
            model.lm,
            model.tokenizer,
            name,
            data=DataRoot(data_root),
            first=protocol.windows,
            batch_size=protocol.batch_size,
            progress=lambda _text, done, of, told=told: told(done, of),  # type: ignore[misc]
        )
    return results
