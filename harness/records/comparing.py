"""Records beside each other: the data their numbers are of, and the code behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from harness.records.basis import STAGES, Stage
from harness.records.record import PerplexityResult, Record, TaskResult

Data = Mapping[str, str]
"""Digests of data by their names; of two numbers those are compared that both have."""


def task_data(record: Record, *, task: str) -> Data:
    """Return the data behind a record's result of a task; nothing where it has none."""
    result = record.tasks.get(task)
    return _data(record, task, result) if result else {}


def text_data(record: Record, *, text: str) -> Data:
    """Return the data behind a record's perplexity on a text; nothing where it has none."""
    result = record.perplexity.get(text)
    return _data(record, text, result) if result else {}


def _data(record: Record, name: str, result: TaskResult | PerplexityResult) -> Data:
    told, _, digest = result.data.rpartition("sha256:")
    files = record.basis.data.get("evaluate", {}) if record.basis else {}
    read = set(told.replace(",", " ").split())
    # What was evaluated is a part of a data set's files; examples and prompts come from them too.
    return {name: digest, **{hub_id: files[hub_id] for hub_id in sorted(read & files.keys())}}


def evaluated_data(record: Record) -> Data:
    """Return the data behind all of a record's results, tasks and texts."""
    data: dict[str, str] = {}
    for task in record.tasks:
        data |= task_data(record, task=task)
    for text in record.perplexity:
        data |= text_data(record, text=text)
    return data


def calibration_data(record: Record) -> Data:
    """Return the data sets that a record's steps drew calibration tokens from."""
    return record.basis.data.get("compress", {}) if record.basis else {}


def different(all_data: Iterable[Data]) -> list[str]:
    """Return the names under which some of these data differ, sorted."""
    known: dict[str, str] = {}
    apart = set()
    for data in all_data:
        for name, digest in data.items():
            if known.setdefault(name, digest) != digest:
                apart.add(name)
    return sorted(apart)


Module = tuple[Stage, str]
"""A stage and the name of a module that it reaches."""


def code_of(record: Record) -> Mapping[Module, str]:
    """Return the digest of each module that a record's numbers reach, by stage."""
    code = record.basis.code if record.basis else {}
    return {(stage, name): code[stage][name] for stage in STAGES for name in code.get(stage, {})}


def by_stage(modules: Iterable[Module], most: int | None = None) -> str:
    """Return modules in one line, stage by stage: `compress: a, b; evaluate: c`.

    Args:
        modules: The modules, in any order.
        most: Number of modules to name at most; None for all.
    """
    ordered = sorted(modules, key=lambda module: (STAGES.index(module[0]), module[1]))
    named: dict[Stage, list[str]] = defaultdict(list)
    for stage, name in ordered[:most]:
        named[stage].append(name)
    text = "; ".join(f"{stage}: {', '.join(names)}" for stage, names in named.items())
    left = len(ordered) - sum(map(len, named.values()))
    return f"{text} and {left} more" if left else text


def code_apart(before: Sequence[Record], after: Sequence[Record]) -> set[Module]:
    """Return the modules that differ between records of one recipe, those of one side alone too."""
    sides = [
        {item for record in records for item in code_of(record).items()}
        for records in (before, after)
    ]
    return {module for module, _ in sides[0] ^ sides[1]}
