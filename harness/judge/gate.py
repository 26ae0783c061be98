"""A run against an earlier one: has anything become worse?

Rows are matched by model and name, items in pairs. A row is

- non-inferior when its accuracy is lower by less than the margin, with 95 % confidence,
- regressed when its accuracy is lower for sure, and perhaps by more than the margin; or when its
  perplexity or its size grew by more than theirs, or when it is not ok any more,
- and otherwise one that too few items can tell.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from harness.errors import UserError
from harness.judge.paired import Difference, compare_seeds
from harness.records.record import Record
from harness.records.rows import Entry, entries, sentence
from harness.records.store import Plan, Store

Outcome = Literal["non-inferior", "regressed", "cannot tell"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class Margins:
    """What may be lost; fractions."""

    accuracy: float = 0.03
    """Of the accuracy over all items pooled, absolute."""
    perplexity: float = 0.05
    """Of the perplexity, relative."""
    size: float = 0.01
    """Of the parameters that are not zero, relative."""


@dataclass(frozen=True)
class Gated:
    """One row of both runs."""

    model: str
    row: str
    seeds: tuple[int, ...]
    outcome: Outcome
    why: str = ""
    before: float | None = None
    """Accuracy over all items and seeds, 0..1."""
    difference: Difference | None = None
    """Of that accuracy; None where a run has no numbers."""
    perplexity: float | None = None
    """The largest ratio of the protocols' perplexities, new over old."""
    size: float | None = None
    """Ratio of the parameters that are not zero, new over old."""


def gate(new: Store, old: Store, margins: Margins | None = None) -> list[Gated]:
    """Judge every row of a run by an earlier run.

    Args:
        new: Results of the run in question.
        old: Results that it must not fall behind.
        margins: What may be lost; None for the defaults.

    Raises:
        UserError: the two cannot be compared: cells are missing, or protocol, model or items
            differ.
    """
    _check_protocol(new, old)
    after, before = _entries(new), _entries(old)
    _check_rows(new, old, after, before)
    allowed = margins or Margins()
    return [_gated(after[key], before[key], new, old, allowed) for key in after]


def verdict_of(rows: Iterable[Gated]) -> Outcome:
    """Of a whole run: that of its worst row."""
    outcomes = {row.outcome for row in rows}
    if "regressed" in outcomes:
        return "regressed"
    return "cannot tell" if "cannot tell" in outcomes else "non-inferior"


def _check_protocol(new: Store, old: Store) -> None:
    mine, theirs = (store.plan().protocol.model_dump() for store in (new, old))
    apart = [f"{name} {theirs[name]!r} there" for name in mine if mine[name] != theirs[name]]
    if apart:
        raise UserError(
            f"{new.folder} and {old.folder} were run under different protocols "
            f"({', '.join(apart)}): run the suite again for the older of the two."
        )


def _entries(store: Store) -> Mapping[tuple[str, str], Entry]:
    plan, records = store.plan(), store.planned()
    if len(records) < len(plan.cells):
        raise UserError(
            f"{store.folder}: {len(plan.cells) - len(records)} of {len(plan.cells)} cells have no "
            f"record, such as {_first_missing(plan, records)}. Run the suite to its end first."
        )
    rows = tuple(dict.fromkeys(cell.row for cell in plan.cells))
    return {entry.id: entry for entry in entries(records, plan.protocol, rows)}


def _first_missing(plan: Plan, records: Sequence[Record]) -> str:
    known = {record.cell for record in records}
    cell = next(cell for cell in plan.cells if cell.id not in known)
    return f"{cell.row!r} on {cell.model}, seed {cell.seed}"


def _check_rows(
    new: Store,
    old: Store,
    after: Mapping[tuple[str, str], Entry],
    before: Mapping[tuple[str, str], Entry],
) -> None:
    for store, mine, theirs in ((old, before, after), (new, after, before)):
        for key in theirs:
            if key not in mine:
                raise UserError(
                    f"{store.folder} has no row {key[1]!r} of {key[0]}, which the other run has: "
                    "run the suite there again."
                )
    for key, entry in after.items():
        if entry.records[0].model.sha256 != before[key].records[0].model.sha256:
            raise UserError(
                f"{key[0]} has other weights in {old.folder} than in {new.folder}: run the suite "
                "again for the older of the two."
            )


def _gated(after: Entry, before: Entry, new: Store, old: Store, allowed: Margins) -> Gated:
    model, row = after.id
    seeds = tuple(record.seed for record in after.records)
    if before.status != "ok":
        # There is nothing to fall behind; a row that is ok now is an improvement.
        return Gated(model, row, seeds, "non-inferior", f"was {before.status}")
    if after.status != "ok":
        bad = next(record for record in after.records if record.status != "ok")
        return Gated(model, row, seeds, "regressed", f"{after.status}: {sentence(bad)}")
    then = [old.items(record.cell) for record in before.ok]
    now = [new.items(record.cell) for record in after.ok]
    try:
        difference = compare_seeds(then, now)
    except UserError as error:
        raise UserError(f"{row!r} of {model}: {error}") from None
    perplexity, size = _perplexity(after, before), _size(after, before)
    outcome, why = _outcome(difference, perplexity, size, allowed)
    accuracy = statistics.fmean(
        item.metrics["acc"] for run in then for item in run if "acc" in item.metrics
    )
    return Gated(model, row, seeds, outcome, why, accuracy, difference, perplexity, size)


def _outcome(
    difference: Difference, perplexity: float | None, size: float | None, allowed: Margins
) -> tuple[Outcome, str]:
    bad = []
    inferior = difference.low <= -allowed.accuracy
    if inferior and difference.high < 0:
        bad.append("accuracy")
    if perplexity is not None and not perplexity <= 1 + allowed.perplexity:  # NaN is no pass
        bad.append("perplexity")
    if size is not None and size > 1 + allowed.size:
        bad.append("size")
    if bad:
        return "regressed", ", ".join(bad)
    return ("cannot tell", "accuracy") if inferior else ("non-inferior", "")


def _perplexity(after: Entry, before: Entry) -> float | None:
    """Of geometric means over the seeds, the largest ratio of any protocol."""
    names = before.ok[0].perplexity.keys() & after.ok[0].perplexity.keys()
    logs = [
        statistics.fmean(math.log(r.perplexity[name].value) for r in after.ok)
        - statistics.fmean(math.log(r.perplexity[name].value) for r in before.ok)
        for name in sorted(names)
    ]
    return math.exp(max(logs)) if logs else None


def _size(after: Entry, before: Entry) -> float | None:
    counts = [
        [r.size.nonzero_parameters for r in entry.ok if r.size and r.size.nonzero_parameters]
        for entry in (after, before)
    ]
    return statistics.fmean(counts[0]) / statistics.fmean(counts[1]) if all(counts) else None
