"""`moebench list`: the names that suites and the command line may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from harness.cli.options import tell
from harness.errors import unknown

Line = tuple[str, str]
"""A name, and a sentence about it."""


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("list", epilog="Example: moebench list methods")(list_)


def list_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="Kind of names: methods, models, suites, tasks, calibrations or texts.",
        ),
    ],
) -> None:
    """List the names of one kind, each with a sentence about it.

    Texts are those that perplexity is measured on.
    """
    if kind not in KINDS:
        raise unknown("list", kind, KINDS)
    lines = list(KINDS[kind]())
    width = max((len(name) for name, _ in lines), default=0)
    for name, sentence in lines:
        tell(f"{name:<{width}}  {sentence}".rstrip())


def _methods() -> Iterator[Line]:
    from harness.method.registry import descriptions

    for name, method in descriptions().items():
        summary = " ".join(method.doc.partition("\n\n")[0].split())
        options = ", ".join(field for field in method.fields if field != "seed")
        yield name, f"{summary} Options: {options or 'none'}."


def _models() -> Iterator[Line]:
    from harness.model.families.shipped import family_name, known
    from harness.reference import MODELS

    for name in MODELS:
        yield name, "Small trained model that ships with the package."
    for ref in known():
        yield ref, f"Full size, {family_name(ref)}; a dry run of it needs no network."
    yield "FOLDER", "A checkpoint or an artifact on disk."
    yield "OWNER/NAME", "A model on the Hugging Face hub."


def _suites() -> Iterator[Line]:
    from harness.plan.find import installed
    from harness.plan.suite import Suite

    for name, path in installed().items():
        yield name, Suite.load(path).title


def _tasks() -> Iterator[Line]:
    from harness.evaluate.tasks import known_tasks

    for name in known_tasks():
        yield name, ""
    yield "...", "and every other task of lm-eval, by its name there."


def _calibrations() -> Iterator[Line]:
    from harness.calibration.corpora.draw import CORPORA

    for name, corpus in CORPORA.items():
        source = corpus.hub_id or "ships with the package"
        size = f"{corpus.size} tokens, seed {corpus.seed}"
        yield name, ". ".join(filter(None, (f"{source}, {size}", corpus.paper)))
    yield "FILE", "Text or instructions (.txt, .jsonl, .json, .gz too), or tokens (.safetensors)."


def _texts() -> Iterator[Line]:
    from harness.evaluate.texts import TEXTS

    for name, text in TEXTS.items():
        windows = f"windows of {text.length} tokens"
        yield name, f"{text.hub_id}, {text.split}, {windows}. {text.source}"


KINDS: dict[str, Callable[[], Iterator[Line]]] = {
    "methods": _methods,
    "models": _models,
    "suites": _suites,
    "tasks": _tasks,
    "calibrations": _calibrations,
    "texts": _texts,
}
