"""All cells of a suite, with every option resolved and with today's basis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cache.notes import file_sha256
from harness.errors import UserError
from harness.plan.cell import Cell, CellStep
from harness.plan.find import calibration_file
from harness.plan.forms import CalibrationForm
from harness.plan.suite import Step, Suite
from harness.plan.today import Today
from harness.records.protocol import LARGEST_SEED


def cells(
    suite: Suite,
    *,
    data_root: Path | None = None,
    limit: int | None = None,
    offline: bool = False,
) -> list[Cell]:
    """Return all cells of a checked suite, the baseline of each model first.

    Args:
        suite: The suite.
        data_root: Folder with data sets as the hub lays them out; None for the embedded ones
            (reference models) or the hub.
        limit: Items per task and windows per text, in place of the protocol's.
        offline: As for `harness.model.files.identity.describe`: for a dry run.

    Raises:
        UserError: a model cannot be had, or two recipes are the same cell.
    """
    from harness.model.files.identity import describe

    protocol = suite.protocol.limited(limit)
    planned: list[Cell] = []
    for number, ref in enumerate(suite.models):
        try:
            model = describe(ref, offline=offline, random=suite.random)
        except UserError as error:
            raise suite.model_error(number, str(error)) from None
        planned += [
            Cell(suite.name, model, recipe.name, steps, seed, protocol)
            for recipe in suite.recipes
            if recipe.fits(model.family)
            for seed in recipe.seeds
            for steps in [resolve(recipe.steps, seed, tokens=not suite.random)]
        ]
    _refuse_twins(suite, planned)
    today = Today(data_root)
    planned = [cell.on(today.basis(cell)) for cell in planned]
    today.keep()
    return planned


def _refuse_twins(suite: Suite, planned: Sequence[Cell]) -> None:
    names: dict[str, str] = {}
    for cell in planned:
        if cell.id in names:
            raise UserError(
                f"{suite.source}: {cell.name!r} and {names[cell.id]!r} are the same cell under "
                "two names; remove one."
            )
        names[cell.id] = cell.name


def resolve(steps: Sequence[Step], seed: int, *, tokens: bool = True) -> tuple[CellStep, ...]:
    """Return the steps of a recipe with every option, and with `seed` where none is pinned.

    Args:
        steps: The steps, their names and options checked.
        seed: Seed of the methods and of the calibration draws.
        tokens: True if steps look at calibration tokens; random weights have none to look at.
    """
    return tuple(_resolve(step, seed, tokens) for step in steps)


def _resolve(step: Step, seed: int, tokens: bool) -> CellStep:
    from harness.method import registry

    method = registry.build(step.method, {"seed": seed, **step.options})
    code, own = registry.code_of(type(method)), registry.own_sha256(type(method))
    if not tokens:
        none = CalibrationForm(ref="none", sequences=0, length=1, seed=0)
        return CellStep(step.method, method.options(), code, own, none)
    file = _calibration_text(step.calibration.ref)
    return CellStep(
        step.method,
        method.options(),
        code,
        own,
        _resolve_calibration(step.calibration, seed),
        file_sha256(file) if file else "",
    )


def _calibration_text(ref: str) -> Path | None:
    """The local file a calibration is drawn from; None for a corpus on the hub."""
    from harness import reference
    from harness.calibration.corpora.draw import CORPORA

    if ref not in CORPORA:
        return calibration_file(ref)
    return None if CORPORA[ref].hub_id else reference.DATA / CORPORA[ref].file


def _resolve_calibration(form: CalibrationForm, seed: int) -> CalibrationForm:
    from harness.calibration.corpora.draw import CORPORA

    corpus = CORPORA.get(form.ref)
    own = corpus.seed if corpus else 0
    gaps: dict[str, Any] = {}
    if form.seed is None:
        gaps["seed"] = (own + seed) % (LARGEST_SEED + 1)
    if corpus and form.sequences is None:
        gaps["sequences"] = corpus.sequences
    if corpus and form.length is None:
        gaps["length"] = corpus.length
    return form.model_copy(update=gaps)
