"""Option `propagate`: the states that later blocks of a model see."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Propagate = Annotated[
    Literal["edited", "original"],
    Field(
        description="States that later blocks see: of the blocks before them as the method leaves "
        'them ("edited"), or of the original ones ("original").'
    ),
]
"""Option type of `propagate`, in the words of `Calibration.walk(follow=...)`."""
