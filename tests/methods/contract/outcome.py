"""What became of the contract's cases in one run of pytest."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from tests.methods.contract.cases import Case

if TYPE_CHECKING:
    import pytest

PROPERTY = "contract"


@dataclass(frozen=True, order=True)
class Outcome:
    """One case and the sentence that refused it; the sentence is empty if the case ran."""

    case: str
    state: str
    method: str
    family: str
    refusal: str

    @classmethod
    def of(cls, case: Case, refusal: str) -> Outcome:
        """The outcome of a case."""
        return cls(case.id, case.state, case.method, case.family, refusal)

    def recorded(self) -> tuple[str, tuple[str, ...]]:
        """The user property that carries the outcome to the end of the run, in plain strings."""
        return PROPERTY, astuple(self)


def outcomes(reports: list[pytest.TestReport]) -> list[Outcome]:
    """The outcomes that these reports carry, sorted."""
    return sorted(
        Outcome(*value)
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == PROPERTY and isinstance(value, tuple | list)
    )
