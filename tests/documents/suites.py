"""Tables of the suites whose records are in the repository."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

from harness.judge.paired import compare
from harness.records.rows import Entry, entries
from harness.records.store import Store
from harness.reference.world.subjects import SUBJECTS
from harness.report.board import Leaderboard, Row
from harness.report.columns import AVERAGE, DECODE, DELTA, TITLES
from harness.report.publish import board_of
from harness.report.tables.text import MISSING, TIMES, cell, printed
from tests.documents.markdown import signed, table
from tests.documents.pages import ROOT

WIKITEXT, PTB = "perplexity.wikitext2.value", "perplexity.ptb.value"
GATED = "reference/mixtral"
"""The model of the gate's example."""


def quickstart() -> str:
    """The README's table of results."""
    board = leaderboard_of("quickstart")
    keys = [AVERAGE, DELTA, WIKITEXT, PTB, "size.parameters", "size.artifact_bytes", DECODE]
    header = [
        "recipe",
        "average of 8 tasks",
        "Δ to the baseline",
        "WikiText2",
        "PTB",
        "parameters",
        "on disk",
        "decode speed-up",
    ]
    rows = [
        [label(row), *(number(board, row, key) for key in keys)]
        for row in board.rows
        if row.kind != "level"
    ]
    return f"{machine('quickstart')}\n\n{table(header, rows)}"


def baselines() -> str:
    """Accuracies of the uncompressed reference models, and what guessing gets."""
    board = leaderboard_of("regression")
    tasks = [f"{task}.acc" for task in store("regression").plan().protocol.tasks]
    keys = [*tasks, AVERAGE, WIKITEXT]
    header = [
        "model",
        "parameters",
        *(TITLES[key.removesuffix(".acc")] for key in tasks),
        "average",
        "WikiText2",
    ]
    guesses = [row for row in board.rows if row.kind == "level"]
    levels = dict.fromkeys(tuple(number(board, row, key) for key in keys) for row in guesses)
    rows = [["max(chance, majority)", "", *level] for level in levels]
    rows += [
        [row.model, _parameters(row), *(number(board, row, key) for key in keys)]
        for row in board.rows
        if row.kind == "baseline"
    ]
    return f"{machine('regression')}\n\n{table(header, rows)}\n\n{_errors()}"


def mmlu() -> str:
    """The baselines' MMLU: the subjects that quote a passage, and those that ask for knowledge."""
    rows = []
    for record in store("regression").planned():
        if record.recipe:
            continue
        right: dict[bool, list[float]] = {True: [], False: []}
        for item in store("regression").items(record.cell):
            subject = item.task.removeprefix("mmlu_")
            if subject in SUBJECTS:
                right[SUBJECTS[subject] == "reading"].append(item.metrics["acc"])
        cells = [f"{sum(right[kind]):.0f} of {len(right[kind])}" for kind in (True, False)]
        rows.append([record.model.label, *cells])
    header = ["MMLU items answered", "with a passage", "the others; a guess gets a quarter"]
    return table(header, rows)


def compressed() -> str:
    """The average and WikiText2's perplexity of every recipe of the gate's suite, by model."""
    board = leaderboard_of("regression")
    by_id = {(row.model, row.name): row for row in board.rows if row.kind != "level"}
    models = list(dict.fromkeys(model for model, _ in by_id))
    names = list(dict.fromkeys(name for _, name in by_id))
    rows = []
    for name in names:
        cells = [_both(board, by_id.get((model, name))) for model in models]
        rows.append([name, *cells])
    return f"{machine('regression')}\n\n{table(['recipe', *models], rows)}"


def seeds() -> str:
    """The first seed of the gate's suite against its second, which has another calibration text."""
    rows = []
    for entry in _entries("regression"):
        if entry.model != GATED or len(entry.records) != 2:
            continue
        before, after = entry.records
        items = store("regression").items
        result = compare(items(before.cell), items(after.cell))
        low, high = (signed(100 * bound, 1) for bound in (result.low, result.high))
        ratio = after.perplexity["wikitext2"].value / before.perplexity["wikitext2"].value
        difference = f"{signed(100 * result.difference, 1)} [{low}, {high}]"
        rows.append([entry.name, str(result.items), difference, f"{TIMES} {ratio:.3f}"])
    header = ["recipe, another calibration text", "items", "accuracy, points", "perplexity"]
    return table(header, rows)


def machine(suite: str) -> str:
    """Return a sentence on what a suite was measured with, and by which commits."""
    places = [place for record in store(suite).planned() if (place := record.environment)]
    machines = {f"{p.processor}, {p.threads} of {p.cores} cores" for p in places}
    commits = sorted({(place.commit or "unknown")[:8] for place in places})
    dtype = store(suite).plan().protocol.dtype
    noun = "commits" if len(commits) > 1 else "commit"
    return (
        f"From the records in `results/{suite}`: {'; '.join(sorted(machines))}, {dtype}, by "
        f"{noun} {', '.join(commits)}."
    )


@cache
def store(suite: str) -> Store:
    """Return the results of a suite in the repository."""
    return Store(ROOT / "results" / suite)


@cache
def leaderboard_of(suite: str) -> Leaderboard:
    """Return a suite's leaderboard."""
    return board_of(store(suite))


def _entries(suite: str) -> tuple[Entry, ...]:
    plan = store(suite).plan()
    order = tuple(dict.fromkeys(planned.row for planned in plan.cells))
    return entries(store(suite).planned(), plan.protocol, order)


def label(row: Row) -> str:
    """Return the name of a row, with its seeds where it has several."""
    return f"{row.name} ({len(row.seeds)} seeds)" if len(row.seeds) > 1 else row.name


def number(board: Leaderboard, row: Row, key: str) -> str:
    """Return a value in three digits where it is a quantity; accuracies with their deviation."""
    value = row.values.get(key)
    if value is None:
        return "" if key == DELTA else MISSING
    column = next(column for column in board.columns if column.key == key)
    if column.scale == "si":
        column = replace(column, digits=3)
    if key.startswith("perplexity.") or key == DELTA:
        return printed(value.mean, column)
    if key == DECODE:
        return f"{printed(value.mean, column)}{TIMES}"
    return cell(replace(value, low=None, high=None), column, value.n)


def _parameters(row: Row) -> str:
    return f"{row.values['size.parameters'].mean:,.0f}"


def _both(board: Leaderboard, row: Row | None) -> str:
    if row is None:
        return MISSING
    return f"{number(board, row, AVERAGE)} ({number(board, row, WIKITEXT)})"


def _errors() -> str:
    """The uncertainty of an accuracy that is due to its items."""
    records = [r for r in store("regression").planned() if not r.recipe]
    tasks = [[t.stderr["acc"] for t in r.tasks.values()] for r in records]
    of_average = [math.hypot(*errors) / len(errors) for errors in tasks]
    largest = max(max(errors) for errors in tasks)
    return (
        f"The standard error over the items is at most {100 * largest:.1f} points for a task, and "
        f"{100 * min(of_average):.1f} to {100 * max(of_average):.1f} for the average."
    )
