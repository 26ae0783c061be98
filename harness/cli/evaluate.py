"""`moebench evaluate`: tasks and perplexity of one model or artifact."""

from __future__ import annotations

import json as json_
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DataRoot, DType, dtype_named, names_in, say
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
        str, typer.Argument(metavar="MODEL", help="Reference name, folder, artifact, or hub id.")
    ],
    tasks: Annotated[
        str, typer.Option(metavar="A,B", help="Tasks, as lm-eval spells them; the eight without.")
    ] = "",
    perplexity: Annotated[
        str, typer.Option(metavar="X,Y", help="Perplexity protocols; see moebench list protocols.")
    ] = "",
    data_root: DataRoot = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Items per task.")] = None,
    shots: Annotated[int, typer.Option(min=0, help="Few-shot examples.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences per forward pass.")] = 16,
    dtype: DType = "float32",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Evaluate a model, and print the numbers.

    Without --tasks and --perplexity it is the eight zero-shot tasks, WikiText-2 and PTB.
    """
    from harness.records.protocol import Protocol

    default = Protocol()
    nothing_asked = not tasks and not perplexity
    wanted = default.tasks if nothing_asked else tuple(names_in(tasks))
    measures = default.perplexity if nothing_asked else tuple(names_in(perplexity))
    check_names(wanted, measures)
    protocol = Protocol(
        tasks=wanted,
        average=(),
        perplexity=measures,
        limit=limit,
        shots=shots,
        batch_size=batch_size,
    )
    found, perplexities = numbers(model, protocol, dtype, data_root)
    if json:
        typer.echo(
            json_.dumps(
                {
                    "tasks": {name: task.model_dump() for name, task in found.items()},
                    "perplexity": {name: one.model_dump() for name, one in perplexities.items()},
                },
                indent=1,
            )
        )
        return
    for line in table(found, perplexities):
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
    ref: str, protocol: Protocol, dtype: str, data_root: Path | None
) -> tuple[dict[str, TaskResult], dict[str, PerplexityResult]]:
    """Tasks and perplexities of a model."""
    from harness.places import data_root_of, prepare_environment

    prepare_environment([ref], data_root)

    from harness.data import DataRoot as Data
    from harness.evaluate.perplexity import perplexity
    from harness.evaluate.tasks import evaluate_tasks
    from harness.model.files.opening import open_model
    from harness.run.models import device

    data = Data(data_root_of(ref, data_root))
    say("loading the model ...")
    model = open_model(ref, dtype=dtype_named(dtype), device=device())
    say("evaluating ...")
    tasks, _ = evaluate_tasks(
        model.lm,
        model.tokenizer,
        protocol.tasks,
        data=data,
        shots=protocol.shots,
        limit=protocol.limit,
        batch_size=protocol.batch_size,
    )
    return tasks, {
        name: perplexity(model.lm, model.tokenizer, name, data=data, batch_size=protocol.batch_size)
        for name in protocol.perplexity
    }


def table(tasks: dict[str, TaskResult], perplexity: dict[str, PerplexityResult]) -> Iterator[str]:
    """One line per number."""
    for name, task in tasks.items():
        for metric, value in sorted(task.metrics.items()):
            error = task.stderr.get(metric)
            spread = "" if error is None else f" ± {error:.4f}"
            yield f"{name:<16} {metric:<12} {value:.4f}{spread}  ({task.items} items)"
    for name, one in perplexity.items():
        note = f", {one.note}" if one.note else ""
        yield f"{name:<16} {'perplexity':<12} {one.value:.4f}  ({one.tokens} tokens{note})"
