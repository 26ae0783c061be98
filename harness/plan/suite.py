"""A suite: models x recipes x seeds under one protocol, written as one TOML file.

This module knows the shape of a suite and where in the file each key stands; whether the names
in it exist is `harness.plan.check`'s business, so that listing suites costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from harness.disk.reading import parse_toml, read_text
from harness.errors import UserError
from harness.plan import lines as locate
from harness.plan.find import find
from harness.plan.forms import (
    STAND_IN,
    CalibrationForm,
    PublishedForm,
    RecipeFileForm,
    StandInForm,
    SuiteForm,
    Weights,
)
from harness.plan.strict import fill
from harness.records.protocol import Protocol
from harness.reference import MODELS

BASELINE = "baseline"
"""The name of the row without steps, which every suite has and none writes."""


INSTRUCTIONS = ("alpaca", "alpaca-gpt4", "metamathqa")
"""Corpora that the reference models' own instructions stand in for."""


REFERENCE = "reference"
"""Name that stands for all reference models; a suite's table of it has what changes on them."""


@dataclass(frozen=True)
class Step:
    """One method with its options as the suite gives them."""

    method: str
    options: Mapping[str, Any]
    calibration: CalibrationForm


@dataclass(frozen=True)
class Recipe:
    """Ordered steps under one name; a row of the leaderboard."""

    name: str
    steps: tuple[Step, ...]
    seeds: tuple[int, ...]
    families: tuple[str, ...] | None = None
    """Families of models that get this recipe; None for all."""
    published: Mapping[str, str | float] | None = None
    """Row of the published table that this recipe is: "method", and columns that tell it apart."""

    def fits(self, family: str) -> bool:
        """Return True if models of this family get the recipe."""
        return self.families is None or family in self.families


@dataclass(frozen=True)
class Suite:
    """A suite whose shape is right."""

    name: str
    title: str
    models: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    """Recipes in the file's order, the baseline before them."""
    protocol: Protocol
    text: str
    """Text of the file, TOML."""
    source: str
    """Name of the file in errors."""
    published: PublishedForm | None = None
    reference: StandInForm = field(default_factory=StandInForm)
    moved: bool = False
    """True if `models` are others than the file's."""
    weights: Weights = "stored"
    """Origin of the weights; random ones serve memory, bytes, FLOPs and speed, and no download."""
    made_by: str = ""
    """Command that makes the models' folders, told where one is missing."""

    @property
    def random(self) -> bool:
        """True if the models' weights are drawn at random."""
        return self.weights == "random"

    def model_error(self, number: int, sentence: str) -> UserError:
        """Return the error for one of the models, with the place where it was named."""
        if self.moved:
            return UserError(sentence, argument="models")
        return UserError(f"{self.where('models', number)}: {sentence}")

    def on(self, models: Sequence[str]) -> Self:
        """Return the same recipes on other models, as a suite of another name.

        Where reference models stand in for others, protocol, calibrations and options change with
        them, as the suite's `[reference]` says.

        Args:
            models: Models in place of the suite's; "reference" stands for all reference models.

        Raises:
            UserError: reference models and others together, which need different protocols.
        """
        every = (ref for name in models for ref in (MODELS if name == REFERENCE else (name,)))
        refs = tuple(dict.fromkeys(every))
        moved = replace(self, name=f"{self.name}@{_suffix(refs)}", models=refs, moved=True)
        shipped = [ref in MODELS for ref in refs]
        if not any(shipped) or all(ref in MODELS for ref in self.models):
            return moved
        if not all(shipped):
            raise UserError(
                "reference models and others need different protocols; run them apart.",
                argument="models",
            )
        protocol = {**self.protocol.model_dump(mode="json"), **STAND_IN, **self.reference.protocol}
        at = (REFERENCE, "protocol")
        recipes = tuple(
            replace(recipe, steps=tuple(self._stand_in(step) for step in recipe.steps))
            for recipe in self.recipes
        )
        return replace(
            moved,
            protocol=fill(Protocol, protocol, text=self.text, source=self.source, at=at),
            recipes=recipes,
        )

    def _stand_in(self, step: Step) -> Step:
        form, ref = self.reference.calibration, step.calibration.ref
        if ref in INSTRUCTIONS:
            form = CalibrationForm(ref="reference-instructions")
        form = self.reference.calibrations.get(ref, form)
        if form.seed is None:
            form = form.model_copy(update={"seed": step.calibration.seed})
        options = {**step.options, **self.reference.options.get(step.method, {})}
        return Step(step.method, options, form)

    def where(self, *path: str | int) -> str:
        """Return `file:line` of a key, or of the nearest enclosing table that is written down."""
        return f"{self.source}:{locate.line_of(locate.lines(self.text), path)}"

    def has(self, *path: str | int) -> bool:
        """Return True if the file writes this key down."""
        return path in locate.lines(self.text)

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Read a suite from a TOML file, or by the name of an installed one.

        Raises:
            UserError: there is no such suite, or its shape is wrong; names file and line.
        """
        path = find(str(name))
        source = _shown(path)
        return cls.parse(read_text(path, where=source), name=path.stem, source=source)

    @classmethod
    def stored(cls, path: Path, name: str) -> Self:
        """Read the suite that a run has left in its results.

        Args:
            path: The file.
            name: The suite's name, which the results tell.

        Raises:
            UserError: the file cannot be read, or its shape is wrong.
        """
        return cls.parse(read_text(path), name=name, source=str(path))

    @classmethod
    def load_recipe(cls, path: Path, calibration: CalibrationForm) -> Self:
        """Read a file with `steps` and maybe `[calibration]` as a suite of that one recipe.

        Args:
            path: The TOML file.
            calibration: Calibration of the steps, where the file gives none.

        Raises:
            UserError: the file cannot be read, or its shape is wrong.
        """
        source = _shown(path)
        text = read_text(path, where=source)
        data = parse_toml(text, source)
        form = fill(RecipeFileForm, data, text=text, source=source)
        if form.calibration:
            calibration = form.calibration
        draft = cls(path.stem, path.stem, (), (), Protocol(), text, source)
        steps = tuple(
            _step(raw, calibration, draft, ("steps", position))
            for position, raw in enumerate(form.steps)
        )
        recipes = (Recipe(BASELINE, (), (0,)), Recipe(path.stem, steps, (0,)))
        return replace(draft, recipes=recipes)

    @classmethod
    def parse(cls, text: str, *, name: str, source: str) -> Self:
        """Read a suite from TOML text.

        Args:
            text: The TOML.
            name: The suite's name.
            source: Name of the file in errors.

        Raises:
            UserError: the shape is wrong; names file and line.
        """
        data = parse_toml(text, source)
        form = fill(SuiteForm, data, text=text, source=source)
        draft = cls(
            name,
            form.title or name,
            form.models,
            (),
            form.protocol,
            text,
            source,
            form.published,
            form.reference,
            weights=form.weights,
            made_by=form.made_by,
        )
        _refuse_twins(draft, "models", list(form.models), "model", ())
        _refuse_twins(draft, "recipes", [r.name for r in form.recipes], "recipe", ("name",))
        recipes = [Recipe(BASELINE, (), form.seeds[:1])]
        for number, recipe in enumerate(form.recipes):
            if recipe.name == BASELINE:
                where = draft.where("recipes", number, "name")
                raise UserError(f"{where}: every suite has a row {BASELINE!r} already. Rename it.")
            steps = tuple(
                _step(raw, form.calibration, draft, ("recipes", number, "steps", position))
                for position, raw in enumerate(recipe.steps)
            )
            row = recipe.published
            if isinstance(row, str):
                row = {"method": row}
            recipes.append(
                Recipe(
                    recipe.name,
                    steps,
                    recipe.seeds or form.seeds,
                    recipe.families,
                    row,
                )
            )
        return replace(draft, recipes=tuple(recipes))


def _step(
    raw: Mapping[str, Any], calibration: CalibrationForm, draft: Suite, at: locate.KeyPath
) -> Step:
    options = dict(raw)
    if not isinstance(options.get("method"), str):
        raise UserError(f"{draft.where(*at)}: a step needs 'method', the name of a method.")
    name = options.pop("method")
    own = options.pop("calibration", {})
    if isinstance(own, str):
        own = {"ref": own}
    if not isinstance(own, Mapping):
        where = draft.where(*at, "calibration")
        raise UserError(f"{where}: 'calibration' should be a table or the name of a corpus.")
    merged = {**calibration.model_dump(), **own}
    place = (*at, "calibration")
    form = fill(CalibrationForm, merged, text=draft.text, source=draft.source, at=place)
    return Step(name, options, form)


def _suffix(refs: Sequence[str]) -> str:
    """Return the end of a moved suite's name, fit for a folder: the models it is run on."""
    if set(refs) == set(MODELS):
        return REFERENCE
    names = (ref if ref in MODELS else ref.rstrip("/").rpartition("/")[2] for ref in refs)
    return re.sub(r"[^A-Za-z0-9_+-]+", "-", "+".join(names))


def _refuse_twins(
    suite: Suite, table: str, names: Sequence[str], kind: str, key: tuple[str, ...]
) -> None:
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if seen.setdefault(name, number) != number:
            first = suite.where(table, seen[name], *key).rpartition(":")[2]
            where = suite.where(table, number, *key)
            raise UserError(f"{where}: {kind} {name!r} is already on line {first}.")


def _shown(path: Path) -> str:
    """Return a path as it is written from the working folder."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else path)
