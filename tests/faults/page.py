"""The table of faults as docs/reliability.md has it, from the outcomes that were last noted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.documents.markdown import MISSING, table
from tests.faults.kinds import Kind
from tests.faults.outcomes import Outcome
from tests.faults.targets import SEED, Fault

NOTED = Path(__file__).with_name("outcomes.json")
SIGNS = {
    Outcome.SAME: "=",
    Outcome.AGAIN: "w",
    Outcome.SENTENCE: "s",
    Outcome.NAMED: "n",
    Outcome.RENAMED: "i",
    Outcome.FAILED: "f",
    Outcome.FAULT: "**fault**",
}

Counts = dict[str, dict[str, dict[str, int]]]
"""Numbers of faults by target, kind and outcome."""


def note(outcomes: Iterable[tuple[Fault, Outcome]]) -> None:
    """Write down what came of all faults."""
    counts: Counts = {}
    for fault, outcome in outcomes:
        cell = counts.setdefault(fault.target.noun, {}).setdefault(fault.kind, {})
        cell[outcome] = cell.get(outcome, 0) + 1
    about = {"seed": SEED, "version": version("moebench"), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    NOTED.write_text(json.dumps({**about, "counts": counts}, indent=1) + "\n", encoding="utf-8")


def noted() -> dict[str, Any]:
    """Return what was written down."""
    values: dict[str, Any] = json.loads(NOTED.read_text(encoding="utf-8"))
    return values


def faults_table() -> str:
    """Return the table: targets by kinds, in each place the outcomes and their numbers."""
    values = noted()
    counts: Counts = values["counts"]
    every = Counter[str]()
    for cells in counts.values():
        for cell in cells.values():
            every.update(cell)
    rows = [
        [noun, *(_cell(cells.get(kind, {})) for kind in Kind)] for noun, cells in counts.items()
    ]
    legend = "; ".join(f"{sign} {outcome} ({every[outcome]})" for outcome, sign in SIGNS.items())
    return (
        f"{every.total()} faults of seed {values['seed']}, tried with moebench "
        f"{values['version']} on {values['date']}: {legend}.\n\n"
        f"{table(['file', *Kind], rows)}"
    )


def _cell(outcomes: dict[str, int]) -> str:
    """The outcomes at one place of the table, the commonest first."""
    ordered = sorted(outcomes.items(), key=lambda item: -item[1])
    return " ".join(f"{count}{SIGNS[Outcome(outcome)]}" for outcome, count in ordered) or MISSING
