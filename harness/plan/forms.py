"""Tables and keys of a suite's file, as pydantic models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.records.protocol import LARGEST_SEED, Protocol, Seed

Weights = Literal["stored", "random"]
"""Origin of the weights of a suite's models: their files, or a random draw on the device."""


STAND_IN: Mapping[str, Any] = {
    "dtype": "float32",
    "sequence_length": 224,
    "new_tokens": 32,
    "threads": 1,
}
"""The protocol's fields that reference models need otherwise: they have 256 positions, and more
threads do not help models this small."""


_MOST = 2**31 - 1
"""The largest count that any library here takes."""


class Form(BaseModel):
    """A table of a suite's file; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CalibrationForm(Form):
    """Calibration tokens of a step."""

    ref: str = "reference"
    """A corpus, or a file of tokens; see `moebench list calibrations`."""
    sequences: int | None = Field(default=None, ge=0, le=_MOST)
    """Number of sequences; None for the corpus's own, 0 for methods that use no statistics."""
    length: int | None = Field(default=None, ge=1, le=_MOST)
    """Tokens per sequence; None for the corpus's own number."""
    batch_size: int = Field(default=8, ge=1, le=_MOST)
    """Sequences per forward pass."""
    seed: int | None = Field(default=None, ge=0, le=LARGEST_SEED)
    """Seed of the draw of sequences. None for the corpus's own seed plus the cell's, so that a cell
    of seed 0 draws what the corpus's authors drew."""


class PublishedForm(Form):
    """The table of a paper that the suite's rows belong to."""

    table: str
    """Key of the table in `harness.papers.published`, such as "moe-i2.table1"."""
    baseline: tuple[str, ...] | None = None
    """Labels that the table has for the suite's baseline; None for "baseline" if it has that."""


class StandInForm(Form):
    """Changes to a suite where reference models stand in for its own models."""

    calibration: CalibrationForm = CalibrationForm(sequences=64, length=256)
    """Calibration of every step; where it gives no seed, the step keeps its own."""
    calibrations: dict[str, CalibrationForm] = Field(default_factory=dict)
    """Calibrations in place of `calibration`, by the corpus that the suite names."""
    protocol: dict[str, Any] = Field(default_factory=dict)
    """Fields of the protocol that change, beside those of `STAND_IN`."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options that every step of a method gets, by the method's name."""


class RecipeForm(Form):
    """A recipe of a suite."""

    name: str = Field(min_length=1, max_length=200)
    """Label of the row in every table and figure."""
    steps: tuple[dict[str, Any], ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] | None = Field(default=None, min_length=1)
    families: tuple[str, ...] | None = Field(default=None, min_length=1)
    published: str | dict[str, str | float] | None = None


class RecipeFileForm(Form):
    """A file that holds one recipe."""

    steps: tuple[dict[str, Any], ...] = Field(min_length=1)
    calibration: CalibrationForm | None = None


class SuiteForm(Form):
    """A suite's file."""

    title: str = Field(default="", max_length=500)
    models: tuple[str, ...] = Field(min_length=1)
    weights: Weights = "stored"
    made_by: str = ""
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    protocol: Protocol = Protocol()
    calibration: CalibrationForm = CalibrationForm()
    recipes: tuple[RecipeForm, ...] = ()
    published: PublishedForm | None = None
    reference: StandInForm = StandInForm()
