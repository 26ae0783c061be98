"""Try all faults, or one, and say what came of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.documents.pages import ROOT, fill
from tests.documents.tables import TABLES
from tests.faults.outcomes import Outcome
from tests.faults.page import note
from tests.faults.targets import COUNT, SEED, fault
from tests.faults.trial import Trials
from tests.faults.world import World

PAGE = ROOT / "docs" / "reliability.md"


def main() -> int:
    """Return 0 where there is no fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", type=int, nargs="*", metavar="N", help="Numbers of faults.")
    parser.add_argument("--seed", type=int, default=SEED, help="Draw others than the table's.")
    parser.add_argument("--write", action="store_true", help="Write the table of all faults.")
    parser.add_argument("--all", action="store_true", help="Print those that are none, too.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(World(Path(folder)))
        tried = []
        for number in asked.only or range(COUNT):
            trial = trials.carry_out(fault(number, asked.seed))
            tried.append((trial.fault, trial.judged.outcome))
            if asked.only or asked.all or trial.judged.outcome is Outcome.FAULT:
                sys.stdout.write(trial.told() + "\n")
                sys.stdout.flush()
    counts = Counter(outcome for _, outcome in tried)
    sys.stdout.write("".join(f"{outcome}: {count}\n" for outcome, count in counts.items()))
    if asked.write:
        note(tried)
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(fill(text, TABLES, where=PAGE.name), encoding="utf-8")
    return min(counts[Outcome.FAULT], 1)


if __name__ == "__main__":
    sys.exit(main())
