"""Whether the names in a suite exist, asked before anything runs.

A suite that passes has methods that can be built from their options, and tasks, perplexity
protocols and corpora that are known. Whether a method can do what it is asked on this model is
the dry run's question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UserError, nearest, unknown
from harness.plan import lines as locate
from harness.plan.find import calibration_file
from harness.plan.strict import fill
from harness.plan.suite import Recipe, Step, Suite

if TYPE_CHECKING:
    from harness.papers.published import Table


def check(suite: Suite) -> None:
    """Check every name and option of a suite.

    Raises:
        UserError: the first fault, with file and line and the nearest name.
    """
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


def _table(suite: Suite) -> Table | None:
    """The published table that the suite names."""
    if suite.published is None:
        return None
    from harness.papers.published import tables

    found, name = tables(), suite.published.table
    if name not in found:
        raise unknown("published table", name, found, where=suite.where("published", "table"))
    for number, label in enumerate(suite.published.baseline or ()):
        if label not in found[name].methods:
            where = suite.where("published", "baseline", number)
            raise unknown(f"row of {name}", label, found[name].methods, where=where)
    return found[name]


def _check_row(suite: Suite, table: Table | None, recipe: Recipe, number: int) -> None:
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
    """Check that lm-eval has the task; its whole index is read only when it must be."""
    from harness.evaluate.tasks import known_tasks

    if name in known_tasks():
        return
    from lm_eval.tasks import TaskManager

    every = TaskManager().all_tasks
    if name not in every:
        raise unknown("task", name, every, where=where)


def check_step(suite: Suite, step: Step, at: locate.Path) -> None:
    """Check that the method exists and takes these options; `at` is the step's place."""
    from harness.method import registry

    method = registry.method(step.method, where=suite.where(*at, "method"))
    known = [name for name in method.model_fields if name != "seed"]
    for option in step.options:
        if option not in method.model_fields:
            raise UserError(
                f"{suite.where(*at, option)}: unknown option {option!r} of method "
                f"{step.method!r}.{nearest(option, known)} Known: {', '.join(known)}."
            )
    what = f"method {step.method!r}: "
    fill(method, step.options, text=suite.text, source=suite.source, at=at, what=what)


def check_calibration(suite: Suite, step: Step, at: locate.Path) -> None:
    """Check that the corpus is known, or is a file."""
    from harness.calibration.corpora.draw import CORPORA

    ref = step.calibration.ref
    if ref in CORPORA or calibration_file(ref):
        return
    own = suite.has(*at, "calibration")
    where = suite.where(*(at if own else ()), "calibration", "ref")
    raise unknown("calibration", ref, CORPORA, where=where)
