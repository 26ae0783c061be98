"""`moebench evaluate`: tasks and perplexity of one model or artifact."""

from __future__ import annotations

import json as json_
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DataRoot, DType, Verify, check_dtype, names_in, say_phase
from harness.errors import unknown

if TYPE_CHECKING:
    from harness.records.protocol import Protocol
    from harness.records.record import PerplexityResult, TaskResult

EXAMPLE = "Example: moebench evaluate reference/mixtral --tasks boolq,piqa --perplexity wikitext2"


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("evaluate", epilog=EXAMPLE)(evaluate)


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Reference name, folder, artifact or hub id.")
    ],
    tasks: Annotated[str, typer.Option(metavar="A,B", help="Tasks, as lm-eval spells them.")] = "",
    perplexity: Annotated[
        str, typer.Option(metavar="X,Y", help="Texts for perplexity; see moebench list texts.")
    ] = "",
    data_root: DataRoot = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="The first N items of each task, and windows of each text.", metavar="N"
        ),
    ] = None,
    shots: Annotated[int, typer.Option(min=0, help="Few-shot examples per question.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences per forward pass.")] = 16,
    dtype: DType = "float32",
    verify: Verify = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with all digits.")] = False,
) -> None:
    """Evaluate a model, and print the numbers.

    A suite's cell has the same numbers. Without --tasks and --perplexity, the eight zero-shot
    tasks are evaluated, and the perplexities of WikiText-2 and PTB.
    """
    from harness.cache.upkeep import in_use
    from harness.records.protocol import Protocol

    default = Protocol()
    nothing_asked = not tasks and not perplexity
    wanted = default.tasks if nothing_asked else tuple(names_in(tasks))
    texts = default.perplexity if nothing_asked else tuple(names_in(perplexity))
    check_names(wanted, texts)
    protocol = Protocol(
        tasks=wanted,
        average=(),
        perplexity=texts,
        shots=shots,
        batch_size=batch_size,
        dtype=check_dtype(dtype),
    ).limited(limit)
    with in_use():
        results, perplexities = numbers(model, protocol, data_root, verify=verify)
    if json:
        data = {
            "tasks": {name: result.model_dump() for name, result in results.items()},
            "perplexity": {name: result.model_dump() for name, result in perplexities.items()},
        }
        typer.echo(json_.dumps(data, indent=1))
        return
    for line in table(results, perplexities):
        typer.echo(line)


def check_names(tasks: tuple[str, ...], perplexity: tuple[str, ...]) -> None:
    """Refuse names that do not exist, before a model is opened."""
    from harness.evaluate.texts import TEXTS
    from harness.plan.check import check_task

    for name in tasks:
        check_task(name, "--tasks")
    for name in perplexity:
        if name not in TEXTS:
            raise unknown("perplexity text", name, TEXTS, where="--perplexity")


def numbers(
    ref: str, protocol: Protocol, data_root: Path | None, *, verify: bool = True
) -> tuple[dict[str, TaskResult], dict[str, PerplexityResult]]:
    """Measure the tasks and perplexities of a model as a suite's cell does."""
    from harness.places import data_root_of, prepare_environment

    prepare_environment([ref], data_root)

    from harness.run.stages.evaluating import evaluate_tasks, measure_perplexities
    from harness.run.stages.opening import open_stored
    from harness.run.stages.preparing import prepare_process
    from harness.run.ticks import pulse

    prepare_process(seed=0, threads=protocol.threads)
    with pulse(say_phase) as say:
        say("loading the model")
        model = open_stored(ref, protocol, verify=verify)
        root = data_root_of(ref, data_root)
        tasks, _ = evaluate_tasks(model, protocol, data_root=root, say=say)
        return tasks, measure_perplexities(model, protocol, data_root=root, say=say)


def table(tasks: dict[str, TaskResult], perplexity: dict[str, PerplexityResult]) -> Iterator[str]:
    """Yield one line per number."""
    for name, task in tasks.items():
        for metric, value in sorted(task.metrics.items()):
            error = task.stderr.get(metric)
            spread = "" if error is None else f" ± {error:.4f}"
            yield f"{name:<16} {metric:<12} {value:.4f}{spread}  ({task.items} items)"
    for name, result in perplexity.items():
        note = f", {result.note}" if result.note else ""
        yield f"{name:<16} {'perplexity':<12} {result.value:.4f}  ({result.tokens} tokens{note})"
