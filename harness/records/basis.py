"""The basis of a number: the code that computed it and the data that it was computed from."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Stage = Literal["compress", "evaluate", "measure"]
"""A part of a cell's work that can be done again by itself."""
STAGES: tuple[Stage, ...] = get_args(Stage)


class Basis(BaseModel):
    """The code and the data behind the numbers of each stage, beside all that the cell asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: dict[Stage, dict[str, str]] = Field(default_factory=dict)
    """Digest of the reached definitions of each module (16 hexadecimal digits), by stage and the
    module's name."""
    data: dict[Stage, dict[str, str]] = Field(default_factory=dict)
    """Digest of the files of each data set that is read, by stage and hub id."""
