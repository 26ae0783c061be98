"""Checks that the names in a suite exist, before anything runs.

A suite that passes has methods that can be built from their options, and tasks, perplexity
texts and corpora that are known. Whether a method can do what it is asked on this model is
the dry run's question.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError, nearest, unknown
from harness.plan import lines as locate
from harness.plan.find import calibration_file
from harness.plan.strict import fill
from harness.plan.suite import Recipe, Step, Suite

if TYPE_CHECKING:
    from harness.papers.published import PrintedTable


def check(suite: Suite) -> None:
    """Check every name and option of a suite.

    Raises:
        UserError: the first fault, with file and line and the nearest name.
    """
    _check_models(suite)
    _check_protocol(suite)
    table = _table(suite)
    # The baseline is not written in the file, so recipe 1 is the file's first.
    for number, recipe in enumerate(suite.recipes[1:]):
        _check_families(suite, recipe, number)
        _check_row(suite, table, recipe, number)
        for position, step in enumerate(recipe.steps):
            at = ("recipes", number, "steps", position)
            check_step(suite, step, at)
            check_calibration(suite, step, at)


def _check_models(suite: Suite) -> None:
    if not suite.made_by or suite.moved:
        return
    for number, ref in enumerate(suite.models):
        if not Path(ref).exists():
            raise suite.model_error(number, f"{ref} is not there; make it with `{suite.made_by}`.")


def _check_protocol(suite: Suite) -> None:
    from harness.evaluate.texts import TEXTS

    protocol = suite.protocol
    for key in ("tasks", "perplexity"):
        if suite.random and getattr(protocol, key):
            where = suite.where("protocol", key)
            raise UserError(f"{where}: random weights have no accuracy; set {key} = [].")
    for number, name in enumerate(protocol.tasks):
        check_task(name, suite.where("protocol", "tasks", number))
    for number, name in enumerate(protocol.perplexity):
        if name not in TEXTS:
            where = suite.where("protocol", "perplexity", number)
            raise unknown("perplexity text", name, TEXTS, where=where)
    for number, name in enumerate(protocol.average):
        if name not in protocol.tasks:
            where = suite.where("protocol", "average", number)
            raise UserError(
                f"{where}: 'average' names {name!r}, which is not among the tasks."
                f"{nearest(name, protocol.tasks)}"
            )


def _check_families(suite: Suite, recipe: Recipe, number: int) -> None:
    from harness.model.families.family import FAMILIES

    for position, name in enumerate(recipe.families or ()):
        if name not in FAMILIES:
            where = suite.where("recipes", number, "families", position)
            raise unknown("model family", name, FAMILIES, where=where)


def _table(suite: Suite) -> PrintedTable | None:
    """Return the published table that the suite names, or None if it names none."""
    if suite.published is None:
        return None
    from harness.papers.published import tables

    known, name = tables(), suite.published.table
    if name not in known:
        raise unknown("published table", name, known, where=suite.where("published", "table"))
    for number, label in enumerate(suite.published.baseline or ()):
        if label not in known[name].methods:
            where = suite.where("published", "baseline", number)
            raise unknown(f"row of {name}", label, known[name].methods, where=where)
    return known[name]


def _check_row(suite: Suite, table: PrintedTable | None, recipe: Recipe, number: int) -> None:
    if recipe.published is None:
        return
    where = suite.where("recipes", number, "published")
    if table is None:
        raise UserError(
            f"{where}: 'published' names a row, and the suite names no table. Add "
            '[published] with table = "PAPER.TABLE".'
        )
    label = str(recipe.published.get("method", ""))
    if label not in table.methods:
        raise unknown(f"row of {table.key}", label, table.methods, where=where)
    for column in recipe.published:
        if column != "method" and column not in table.columns:
            raise unknown(f"column of {table.key}", column, table.columns, where=where)
    if not any(row.named(recipe.published) for row in table.rows):
        raise UserError(f"{where}: no row of {table.key} is {dict(recipe.published)}.")


def check_task(name: str, where: str) -> None:
    """Check that lm-eval has a task; its whole index is read only when it must be.

    Raises:
        UserError: there is no such task; the sentence begins with `where`.
    """
    from harness.evaluate.tasks import known_tasks

    if name in known_tasks():
        return
    from lm_eval.tasks import TaskManager

    every = TaskManager().all_tasks
    if name not in every:
        raise unknown("task", name, every, where=where)


def check_step(suite: Suite, step: Step, at: locate.KeyPath) -> None:
    """Check that a step's method exists and takes the step's options.

    Args:
        suite: The suite, whose file the sentence names.
        step: The step.
        at: The step's place in the file.

    Raises:
        UserError: the method or an option is unknown, or a value does not fit.
    """
    from harness.method import registry

    method = registry.method(step.method, where=suite.where(*at, "method"))
    for option in step.options:
        registry.check_option(method, step.method, option, where=suite.where(*at, option))
    of = f"method {step.method!r}: "
    with registry.theirs(f"{suite.where(*at)}: {of}it cannot be made"):
        fill(
            method, step.options, text=suite.text, source=suite.source, at=at, of=of, noun="option"
        )


def check_calibration(suite: Suite, step: Step, at: locate.KeyPath) -> None:
    """Check that a step's calibration corpus is known, or is a file.

    Raises:
        UserError: it is neither; the arguments are those of `check_step`.
    """
    from harness.calibration.corpora.draw import CORPORA

    ref = step.calibration.ref
    if ref in CORPORA or calibration_file(ref):
        return
    own = suite.has(*at, "calibration")
    where = suite.where(*(at if own else ()), "calibration", "ref")
    raise unknown("calibration", ref, CORPORA, where=where)
