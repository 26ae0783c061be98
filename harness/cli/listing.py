"""`moebench list`: what can be named in a suite or on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from harness.errors import unknown

Row = tuple[str, str]


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("list", epilog="Example: moebench list methods")(list_)


def list_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="methods, models, suites, tasks, calibrations or protocols."
        ),
    ],
) -> None:
    """List what can be named: one name and one sentence per line."""
    if kind not in KINDS:
        raise unknown("list", kind, KINDS)
    rows = list(KINDS[kind]())
    width = max((len(name) for name, _ in rows), default=0)
    for name, sentence in rows:
        typer.echo(f"{name:<{width}}  {sentence}".rstrip())


def _methods() -> Iterator[Row]:
    from harness.method import registry

    for name, method in sorted(registry.methods().items()):
        options = ", ".join(option for option in method.model_fields if option != "seed")
        yield name, f"{_first_sentence(method)} Options: {options}."


def _models() -> Iterator[Row]:
    from harness.model.families.shipped import family_name, known
    from harness.reference import MODELS

    for name in MODELS:
        yield name, "Small trained model that ships with the package."
    for ref in known():
        yield ref, f"Full size, {family_name(ref)}; a dry run of it needs no network."
    yield "FOLDER", "A checkpoint or an artifact on disk."
    yield "OWNER/NAME", "A model on the Hugging Face hub."


def _suites() -> Iterator[Row]:
    from harness.plan.find import installed
    from harness.plan.suite import Suite

    for name, path in installed().items():
        yield name, Suite.load(path).title


def _tasks() -> Iterator[Row]:
    from harness.evaluate.tasks import known_tasks

    for name in known_tasks():
        yield name, ""
    yield "...", "and every other task of lm-eval, by its name there."


def _calibrations() -> Iterator[Row]:
    from harness.calibration.corpora.draw import CORPORA

    for name, corpus in CORPORA.items():
        source = corpus.hub_id or "ships with the package"
        size = f"{corpus.size} tokens, seed {corpus.seed}"
        yield name, ". ".join(filter(None, (f"{source}, {size}", corpus.paper)))
    yield "FILE", "Text or instructions (.txt, .jsonl, .json, .gz too), or tokens (.safetensors)."


def _protocols() -> Iterator[Row]:
    from harness.evaluate.texts import TEXTS

    for name, protocol in TEXTS.items():
        text = f"{protocol.hub_id}, {protocol.split}, windows of {protocol.length} tokens"
        yield name, f"{text}. {protocol.source}"


KINDS: dict[str, Callable[[], Iterator[Row]]] = {
    "methods": _methods,
    "models": _models,
    "suites": _suites,
    "tasks": _tasks,
    "calibrations": _calibrations,
    "protocols": _protocols,
}


def _first_sentence(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
