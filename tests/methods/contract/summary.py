"""The contract's line at the end of a run, and its page if the run is asked to write it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.methods.contract.cases import CASES
from tests.methods.contract.outcome import Outcome, outcomes
from tests.methods.contract.page import PAGE, render


def tell(terminal: pytest.TerminalReporter, *, update: bool) -> None:
    """Write how many cases ran and how many were refused; with `update`, the page."""
    kept = outcomes(terminal.stats.get("passed", []))
    broken = outcomes(terminal.stats.get("failed", []))
    if kept or broken:
        terminal.write_line(line(kept, broken))
    if update:
        terminal.write_line(write([*kept, *broken]))


def line(kept: Sequence[Outcome], broken: Sequence[Outcome]) -> str:
    """The counts in one sentence."""
    ran = sum(not outcome.refusal for outcome in kept)
    text = f"contract: {ran} ran, {len(kept) - ran} refused as the table says"
    return f"{text}, {len(broken)} failed" if broken else text


def write(ran: Sequence[Outcome]) -> str:
    """Write the page from a run of all cases; say so, or why not."""
    missing = {case.id for case in CASES} - {outcome.case for outcome in ran}
    if missing:
        return (
            f"contract: {PAGE.name} is left alone, since {len(missing)} of {len(CASES)} cases "
            f"did not run; the first is {min(missing)}"
        )
    PAGE.write_text(render(sorted(ran)), encoding="utf-8")
    return f"contract: wrote {PAGE}"
