"""A suite as its file spells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.records.protocol import Protocol

Weights = Literal["stored", "random"]
"""Of a suite's models: read from their files, or drawn at random on the device."""


STAND_IN: Mapping[str, Any] = {
    "dtype": "float32",
    "sequence_length": 224,
    "new_tokens": 32,
    "threads": 1,
}
"""The protocol's fields that reference models need otherwise: they have 256 positions, and more
threads do not help models this small."""


class Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CalibrationForm(Form):
    """The tokens a step looks at."""

    ref: str = "reference"
    """A corpus, or a file of tokens; see `moebench list calibrations`."""
    sequences: int | None = Field(default=None, ge=0)
    """None for the corpus's own number; 0 for none, which methods without statistics accept."""
    length: int | None = Field(default=None, ge=1)
    """Tokens per sequence; None for the corpus's own."""
    batch_size: int = Field(default=8, ge=1)
    seed: int | None = Field(default=None, ge=0)
    """Of the draw; None for the corpus's own plus the cell's, so seed 0 draws what its authors
    drew."""


class PublishedForm(Form):
    """The table of a paper that the suite's rows belong to."""

    table: str
    """As `harness.papers.published` keys it: "moe-i2.table1"."""
    baseline: tuple[str, ...] | None = None
    """The table's labels of the suite's baseline; None for "baseline", where the table has it."""


class StandInForm(Form):
    """What else changes where reference models stand in for a suite's own."""

    calibration: CalibrationForm = CalibrationForm(sequences=64, length=256)
    """Of every step, but for the seed."""
    calibrations: dict[str, CalibrationForm] = Field(default_factory=dict)
    """By the corpus that the suite names, where that stands for something else."""
    protocol: dict[str, Any] = Field(default_factory=dict)
    """Fields of the protocol, beside those of `STAND_IN`."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of every step of a method, by the method's name."""


class RecipeForm(Form):
    name: str = Field(min_length=1)
    steps: tuple[dict[str, Any], ...] = Field(min_length=1)
    seeds: tuple[int, ...] | None = Field(default=None, min_length=1)
    families: tuple[str, ...] | None = Field(default=None, min_length=1)
    published: str | dict[str, str | float] | None = None


class RecipeFileForm(Form):
    steps: tuple[dict[str, Any], ...] = Field(min_length=1)
    calibration: CalibrationForm | None = None


class SuiteForm(Form):
    title: str = ""
    models: tuple[str, ...] = Field(min_length=1)
    weights: Weights = "stored"
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    protocol: Protocol = Protocol()
    calibration: CalibrationForm = CalibrationForm()
    recipes: tuple[RecipeForm, ...] = ()
    published: PublishedForm | None = None
    reference: StandInForm = StandInForm()
