"""The papers' orders on the reference models: means, differences paired by seed, and what holds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from harness.intervals import student_reach
from harness.records.record import Record
from harness.report.columns import average
from tests.documents.markdown import MINUS, MISSING, signed, table
from tests.documents.suites import machine, store

SUITE = "ordering"
NAMES = {"reference/mixtral": "Mixtral", "reference/qwen2-moe": "Qwen2-MoE"}
ROWS = {
    "baseline": "baseline",
    "random 25 %": "random 25 %",
    "frequency 25 %": "frequency 25 %",
    "EEP 25 %": "EEP 25 %",
    "P 25 %": "P (moe-i2-prune) 25 %",
    "random 50 %": "random 50 %",
    "frequency 50 %": "frequency 50 %",
    "EEP 50 %": "EEP 50 %",
    "P 50 %": "P 50 %",
    "ranks uniform 50 %": "D (moe-i2-decompose) 50 %, uniform ranks",
    "ranks by importance 50 %": "D 50 %, ranks by importance (the loss)",
    "ranks by increase of the loss 50 %": "D 50 %, ranks by importance (its increase)",
    "P 25 % + D": "P 25 % + D",
    "P 25 % + D + F": "P + D + F, on 1,000 instructions",
    "P 25 % + D + F on text": "P + D + F, on 384 rows of calibration text",
}
"""The page's names of the suite's rows; the suite adds the model's to the last three."""


class Claim(NamedTuple):
    """One order that a paper reports: the first row is said to be better than the second."""

    name: str
    better: str
    worse: str
    recovers: bool = False
    """True where the first row is to give back what the second has lost to the baseline."""


CLAIMS = (
    Claim("P over frequency, 25 %", "P 25 %", "frequency 25 %"),
    Claim("P over frequency, 50 %", "P 50 %", "frequency 50 %"),
    Claim("EEP over frequency, 25 %", "EEP 25 %", "frequency 25 %"),
    Claim("EEP over frequency, 50 %", "EEP 50 %", "frequency 50 %"),
    Claim("frequency over random, 25 %", "frequency 25 %", "random 25 %"),
    Claim("frequency over random, 50 %", "frequency 50 %", "random 50 %"),
    Claim("P over random, 50 %", "P 50 %", "random 50 %"),
    Claim(
        "ranks by importance (the loss) over uniform",
        "ranks by importance 50 %",
        "ranks uniform 50 %",
    ),
    Claim(
        "ranks by importance (its increase) over uniform",
        "ranks by increase of the loss 50 %",
        "ranks uniform 50 %",
    ),
    Claim("P over P + D, 25 %", "P 25 %", "P 25 % + D"),
    Claim("P + D + F over P + D, F on instructions", "P 25 % + D + F", "P 25 % + D", recovers=True),
    Claim("P + D + F over P + D, F on text", "P 25 % + D + F on text", "P 25 % + D", recovers=True),
)


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with the half-width of its 95 % interval (t distribution)."""

    mean: float
    reach: float

    @property
    def verdict(self) -> str:
        """The interval's word on a difference that a paper has above zero."""
        if self.mean == self.reach == 0:
            return "equal"
        if self.mean - self.reach > 0:
            return "holds"
        return "**does not hold**" if self.mean + self.reach < 0 else "a tie"


def means() -> str:
    """Average accuracy and perplexity of every recipe on both models."""
    rows = []
    for row, name in ROWS.items():
        cells = [name]
        for model in NAMES:
            records = _records()[model].get(row, {})
            cells += _cells(records) if records else [MISSING, MISSING]
        rows.append(cells)
    header = ["recipe", *(text for name in NAMES.values() for text in (name, "WikiText2"))]
    return f"{machine(SUITE)}\n\n{table(header, rows)}\n\n{_left()}"


def differences() -> str:
    """Every claim with its difference on both models, and whether it holds."""
    rows = []
    for claim in CLAIMS:
        apart = {model: paired(claim, model, accuracy) for model in NAMES}
        cells = [_points(claim, model, difference) for model, difference in apart.items()]
        verdicts = [
            f"{name}: {difference.verdict}"
            for model, name in NAMES.items()
            if (difference := apart[model])
        ]
        rows.append([claim.name, *cells, "; ".join(verdicts)])
    header = ["order", *(f"{name}, points" for name in NAMES.values()), "verdict"]
    return f"{table(header, rows, left=(0, 3))}\n\n{_perplexity()}"


def paired(claim: Claim, model: str, read: Callable[[Record], float]) -> Mean | None:
    """Return the difference of a claim's two rows, paired by seed; None where one did not run."""
    better, worse = (_records()[model].get(row, {}) for row in (claim.better, claim.worse))
    seeds = sorted(better.keys() & worse.keys())
    if not seeds:
        return None
    return interval([read(better[seed]) - read(worse[seed]) for seed in seeds])


def interval(values: Sequence[float]) -> Mean:
    """Return the mean of at least two numbers with its 95 % interval by the t distribution."""
    return Mean(statistics.fmean(values), student_reach(values))


@cache
def _records() -> Mapping[str, Mapping[str, Mapping[int, Record]]]:
    """The records by model, the page's row, and seed."""
    records: dict[str, dict[str, dict[int, Record]]] = {model: {} for model in NAMES}
    for record in store(SUITE).planned():
        row = record.row.removesuffix(" (Mixtral)").removesuffix(" (Qwen)")
        records[record.model.ref].setdefault(row, {})[record.seed] = record
    return records


def accuracy(record: Record) -> float:
    """The average accuracy in percent."""
    value = average(record, store(SUITE).plan().protocol)
    assert value is not None, record.cell
    return 100 * value


def _perplexity_of(record: Record) -> float:
    return record.perplexity["wikitext2"].value


def _cells(records: Mapping[int, Record]) -> list[str]:
    accuracies = [accuracy(record) for record in records.values()]
    perplexity = statistics.fmean(_perplexity_of(record) for record in records.values())
    if len(accuracies) == 1:
        return [f"{accuracies[0]:.1f}", f"{perplexity:.2f}"]
    mean = interval(accuracies)
    return [f"{mean.mean:.1f} ± {mean.reach:.1f}", f"{perplexity:.2f}"]


def _points(claim: Claim, model: str, difference: Mean | None) -> str:
    if difference is None:
        return MISSING
    digits = 2 if max(abs(difference.mean), difference.reach) < 1 else 1
    text = f"{signed(difference.mean, digits)} ± {difference.reach:.{digits}f}"
    if not claim.recovers:
        return text
    (whole,) = _records()[model]["baseline"].values()
    left = statistics.fmean(map(accuracy, _records()[model][claim.worse].values()))
    share = difference.mean / (accuracy(whole) - left)
    return f"{text}, {100 * share:.0f} % of the loss".replace("-", MINUS)


def _left() -> str:
    """The share of the experts' parameters that the recipe P + D removes."""
    shares = []
    for model, name in NAMES.items():
        rows = _records()[model]
        (whole,), left = rows["baseline"].values(), rows["P 25 % + D"][0]
        assert whole.size is not None
        assert left.size is not None
        share = 1 - left.size.expert_parameters / whole.size.expert_parameters
        shares.append(f"{100 * share:.1f} % on {name}")
    return f"P 25 % + D removes {' and '.join(shares)} of the experts' parameters."


def _perplexity() -> str:
    """The one order of perplexities that is not that of the accuracies."""
    apart = []
    for model, name in NAMES.items():
        ours, theirs = (_records()[model][row] for row in ("P 50 %", "frequency 50 %"))
        ratios = [_perplexity_of(ours[seed]) / _perplexity_of(theirs[seed]) for seed in ours]
        rise = interval([100 * (ratio - 1) for ratio in ratios])
        apart.append(f"{signed(rise.mean, 1)} ± {rise.reach:.1f} % on {name}")
    return (
        f"P's WikiText2 perplexity against frequency's, 50 %, paired by seed: {', '.join(apart)}."
    )
