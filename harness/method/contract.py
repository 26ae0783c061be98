"""The contract of a method: options as typed fields, one generator that yields edits.

A newcomer's method is one file::

    class Keep(Method):
        name = "keep"
        reference = "..."
        keep: int

        def compress(self, model, calibration):
            for block in calibration.walk(model):
                mass = block.collect(RouterMass())
                yield KeepExperts(block=block.index, experts=mass.top(self.keep))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from harness.calibration.walk import Calibration
    from harness.model.edits import Edit
    from harness.model.view import MoEModel


class Note(BaseModel):
    """Diagnostic that a method yields; it is stored with the record."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Name, as in "METHOD.scores"."""
    data: Any
    """Anything that JSON can hold."""


class Method(BaseModel, ABC):
    """Compression method. Its fields are its options; unknown options are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    """Name, as suites spell it."""
    reference: ClassVar[str]
    """Paper and formula."""
    calibrated: ClassVar[bool] = True
    """False for a method that looks at no token: it is then given none, and no data is read."""

    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Seed of all random draws; the cell's own unless the suite pins it."""

    def options(self) -> dict[str, Any]:
        """Return every option as JSON, the same in every process: sets come sorted.

        A set of strings is iterated in another order by each process; the identity of a cell must
        not follow it.
        """
        options = self.model_dump(mode="json")
        for name, value in self:
            if isinstance(value, (set, frozenset)):
                options[name] = sorted(options[name])
        return options

    @abstractmethod
    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield the edits that compress `model`.

        The model is a read-only view; the harness applies each edit before it resumes the
        generator, under no_grad.

        Raises:
            Refused: the options cannot be met on this model; one sentence for the user.
        """
