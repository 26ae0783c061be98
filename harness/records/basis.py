"""The basis of a number: the code that computed it and the data that it was computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field

Stage = Literal["compress", "evaluate", "measure"]
"""A part of a cell's work that can be done again by itself."""
STAGES: tuple[Stage, ...] = get_args(Stage)
MOST = 3
"""Number of names in a sentence; of more it says how many."""


class Basis(BaseModel):
    """The code and the data behind the numbers of each stage, beside all that the cell asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: dict[Stage, dict[str, str]] = Field(default_factory=dict)
    """Digest of the reached definitions of each module (16 hexadecimal digits), by stage and the
    module's name."""
    data: dict[Stage, dict[str, str]] = Field(default_factory=dict)
    """Digest of the files of each data set that is read, by stage and hub id."""

    def changes(self, today: Basis) -> dict[Stage, Change]:
        """Return the stages whose code or data are not today's, and what of them.

        A data set that is not there, such as one of the hub before it is fetched or after its cache
        was cleared, tells of no change.
        """
        changes = {}
        for stage in STAGES:
            code = _apart(self.code.get(stage, {}), today.code.get(stage, {}))
            mine, theirs = self.data.get(stage, {}), today.data.get(stage, {})
            data = [name for name in _apart(mine, theirs) if mine.get(name) and theirs.get(name)]
            if code or data:
                changes[stage] = Change(tuple(code), tuple(data))
        return changes


class Change(NamedTuple):
    """Changes in the basis of a stage."""

    code: tuple[str, ...]
    """Names of modules."""
    data: tuple[str, ...]
    """Names of data sets."""


def told(changes: Mapping[Stage, Change]) -> str:
    """Say in words what has changed, a few names of each kind."""
    parts = []
    for stage, change in changes.items():
        parts += [f"code of {stage}: {some(change.code)}"] if change.code else []
        parts += [f"data of {stage}: {some(change.data)}"] if change.data else []
    return "; ".join(parts)


def some(names: Sequence[str]) -> str:
    """Return names in a list, the first `MOST` of them."""
    left = len(names) - MOST
    return f"{', '.join(names[:MOST])} and {left} more" if left > 0 else ", ".join(names)


def _apart(mine: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in mine.keys() | other.keys() if mine.get(name) != other.get(name))
