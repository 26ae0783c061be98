"""The suite on a real model and its mixtures: its table, and the orders in the literature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from harness.records.record import Record
from harness.report.board import Row
from harness.report.columns import AVERAGE, DELTA
from tests.documents.markdown import MISSING, table
from tests.documents.pages import ROOT
from tests.documents.suites import label, leaderboard_of, machine, number, store

SUITE = "real-small"
NAMES = {
    "SmolLM2-135M-from-4-bit": "dense",
    "SmolLM2-135M-from-4-bit-mixtral-8-top-6": "Mixtral form, 8 experts",
    "SmolLM2-135M-from-4-bit-qwen2-moe-16-top-8": "Qwen2-MoE form, 16 experts",
}
"""The page's names of the models."""
TEXTS = {"wikitext2-words": "WikiText-2", "ptb": "PTB"}
NOTHING = "No records yet: `moebench run real-small` makes them."


class Claim(NamedTuple):
    """An order that the literature has: the first recipe's perplexity is lower."""

    lower: str
    higher: str


CLAIMS = (
    Claim("GPTQ, 4 bits", "RTN, 4 bits"),
    Claim("AWQ, 4 bits", "RTN, 4 bits"),
    Claim("SparseGPT, 50 %", "Wanda, 50 %"),
    Claim("Wanda, 50 %", "magnitude, 50 %"),
    Claim("EEP, keep 6 of 8", "random, keep 6 of 8"),
    Claim("greedy, keep 12 of 16", "random, keep 12 of 16"),
    Claim("greedy, keep 8 of 16", "random, keep 8 of 16"),
)


def there() -> bool:
    """Return True if the repository has records of the suite."""
    return (ROOT / "results" / SUITE / "cells.json").is_file()


def results() -> str:
    """The table of all recipes on all models."""
    if not there():
        return NOTHING
    shown = leaderboard_of(SUITE)
    keys = [AVERAGE, DELTA, *(f"perplexity.{text}.value" for text in TEXTS)]
    keys += ["size.parameters", "size.artifact_bytes"]
    header = ["model, from 4-bit weights", "recipe", "average of 6 tasks", "Δ to the baseline"]
    header += [*TEXTS.values(), "parameters", "on disk"]
    rows = [
        [_name(row), label(row), *(number(shown, row, key) for key in keys)]
        for row in shown.rows
        if row.kind != "level"
    ]
    return f"{machine(SUITE)} {_error()}\n\n{table(header, rows, left=(0, 1))}"


def orders() -> str:
    """Every claim on every model that has both recipes, with both perplexities."""
    if not there():
        return NOTHING
    rows = []
    for claim in CLAIMS:
        for model, name in NAMES.items():
            lower, higher = (_records(model, row) for row in claim)
            if lower and higher:
                pairs = [(_values(lower, text), _values(higher, text)) for text in TEXTS]
                cells = [f"{_shown(one)} < {_shown(other)}" for one, other in pairs]
                rows.append([f"{claim.lower} < {claim.higher}", name, *cells, verdict(pairs)])
    header = ["perplexity", "model", *(f"{text}, found" for text in TEXTS.values()), "so it"]
    return table(header, rows, left=(0, 1, 4))


def verdict(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> str:
    """Return the word on a claim: it holds where all values are lower than all others.

    Args:
        pairs: Per text, the perplexities of both recipes, one per seed.
    """
    if all(max(lower) < min(higher) for lower, higher in pairs):
        return "holds"
    if all(min(lower) > max(higher) for lower, higher in pairs):
        return "**does not hold**"
    return "is not decided"


def _records(model: str, row: str) -> list[Record]:
    planned = store(SUITE).planned()
    return [r for r in planned if r.model.label == model and r.row == row and r.status == "ok"]


def _values(records: Sequence[Record], text: str) -> list[float]:
    return [record.perplexity[text].value for record in records]


def _shown(values: Sequence[float]) -> str:
    """A perplexity, or the range of several seeds'."""
    if not values:
        return MISSING
    low, high = min(values), max(values)
    return f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"


def _name(row: Row) -> str:
    return NAMES.get(row.model, row.model)


def _error() -> str:
    """The uncertainty of an average that is due to its items."""
    average = store(SUITE).plan().protocol.average
    errors = [
        math.hypot(*(record.tasks[task].stderr["acc"] for task in average)) / len(average)
        for record in store(SUITE).planned()
        if record.status == "ok"
    ]
    return (
        f"The standard error of an average over its items is {100 * min(errors):.1f} to "
        f"{100 * max(errors):.1f} points; perplexity is of the first windows only."
    )
