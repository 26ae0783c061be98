"""The gate: a run is compared with an earlier one, to see if anything has become worse.

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
from harness.records.comparing import (
    Module,
    calibration_data,
    code_apart,
    different,
    evaluated_data,
)
from harness.records.record import Record
from harness.records.rows import Entry, entries, sentence
from harness.records.store import Plan, Store

Rows = Mapping[tuple[str, str], Entry]
"""Rows of a run by model and name."""
GateOutcome = Literal["non-inferior", "regressed", "cannot tell"]
GATE_OUTCOMES: tuple[GateOutcome, ...] = get_args(GateOutcome)


@dataclass(frozen=True)
class Margins:
    """Losses that are allowed, as fractions."""

    accuracy: float = 0.03
    """Loss of the accuracy over all items pooled; absolute."""
    perplexity: float = 0.05
    """Growth of the perplexity, relative."""
    size: float = 0.01
    """Growth of the number of parameters that are not zero, relative."""


@dataclass(frozen=True)
class Gated:
    """The outcome of one row, which both runs have."""

    model: str
    row: str
    seeds: tuple[int, ...]
    outcome: GateOutcome
    why: str = ""
    """Reason of the outcome: what grew or fell, or a status."""
    before: float | None = None
    """Accuracy of the earlier run over all items and seeds, 0..1."""
    difference: Difference | None = None
    """Difference of the new accuracy from it; None where a run has no numbers."""
    perplexity: float | None = None
    """The largest ratio of the perplexities on the texts, new over old."""
    size: float | None = None
    """Ratio of the parameters that are not zero, new over old."""


@dataclass(frozen=True)
class CodeBetween:
    """The code that two runs do not share."""

    modules: frozenset[Module]
    """Modules whose reached code differs, by stage."""
    unknown: int
    """Number of rows of which a run recorded no code."""


def gate(new: Store, old: Store, margins: Margins | None = None) -> list[Gated]:
    """Compare every row of a run with an earlier run.

    Args:
        new: Results of the run in question.
        old: Results that it must not fall behind.
        margins: Losses that are allowed; None for the defaults.

    Raises:
        UserError: the two cannot be compared: cells are missing, or protocol, model, data or
            items differ.
    """
    after, before = _comparable(new, old)
    allowed = margins or Margins()
    return [_gated(after[key], before[key], new, old, allowed) for key in after]


def code_between(new: Store, old: Store) -> CodeBetween:
    """Return what is known of the code between two runs, which the gate may compare.

    Raises:
        UserError: as `gate`.
    """
    after, before = _comparable(new, old)
    modules: set[Module] = set()
    unknown = []
    for key in after:
        pair = before[key].ok, after[key].ok
        modules |= code_apart(*pair)
        if any(record.basis is None for records in pair for record in records):
            unknown.append(key)
    return CodeBetween(frozenset(modules), len(unknown))


def _comparable(new: Store, old: Store) -> tuple[Rows, Rows]:
    """The rows of two runs that differ in nothing but code.

    Raises:
        UserError: they differ in more, or have no record for a cell.
    """
    _check_protocol(new, old)
    after, before = _entries(new), _entries(old)
    _check_rows(new, old, after, before)
    _check_data(new, old, after, before)
    return after, before


def verdict_of(rows: Iterable[Gated]) -> GateOutcome:
    """Return the outcome of a whole run: that of its worst row."""
    outcomes = {row.outcome for row in rows}
    if "regressed" in outcomes:
        return "regressed"
    return "cannot tell" if "cannot tell" in outcomes else "non-inferior"


def _listed(value: object) -> str:
    """A field of a protocol as a sentence has it."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _check_protocol(new: Store, old: Store) -> None:
    """Raise unless both runs froze the same."""
    mine, theirs = (store.plan().protocol.model_dump() for store in (new, old))
    apart = [
        f"{name} = {_listed(theirs[name])} there" for name in mine if mine[name] != theirs[name]
    ]
    if apart:
        raise UserError(
            f"{new.folder} and {old.folder} were run under different protocols "
            f"({', '.join(apart)}): run the suite again for the older of the two."
        )


def _entries(store: Store) -> Rows:
    """The rows of a run that has all its records, by model and name."""
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
    after: Rows,
    before: Rows,
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


def _check_data(new: Store, old: Store, after: Rows, before: Rows) -> None:
    """Raise unless all numbers of a row, and its calibration, are of the same data."""
    for (model, row), entry in after.items():
        records = [*entry.ok, *before[model, row].ok]
        for verb, names in (
            ("evaluated", different(map(evaluated_data, records))),
            ("calibrated", different(map(calibration_data, records))),
        ):
            if names:
                raise UserError(
                    f"{row!r} of {model} was {verb} on other data ({', '.join(names)}) in "
                    f"{new.folder} than in {old.folder}: run the suite again for the older of the "
                    "two, on the data of the other."
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
) -> tuple[GateOutcome, str]:
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
    """The largest ratio on any text, of geometric means over the seeds, new over old."""
    names = before.ok[0].perplexity.keys() & after.ok[0].perplexity.keys()
    logs = [
        statistics.fmean(math.log(r.perplexity[name].value) for r in after.ok)
        - statistics.fmean(math.log(r.perplexity[name].value) for r in before.ok)
        for name in sorted(names)
    ]
    return math.exp(max(logs)) if logs else None


def _size(after: Entry, before: Entry) -> float | None:
    """Ratio of the means over the seeds of the parameters that are not zero, new over old."""
    counts = [
        [r.size.nonzero_parameters for r in entry.ok if r.size and r.size.nonzero_parameters]
        for entry in (after, before)
    ]
    return statistics.fmean(counts[0]) / statistics.fmean(counts[1]) if all(counts) else None
