"""Footnotes on origins: cells without a record, and rows of other code, data or machines."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.records.basis import MOST, some
from harness.records.comparing import Module, by_stage, calibration_data, code_of
from harness.records.rows import Entry
from harness.records.standing import Standing
from harness.report.apart import Apart
from harness.report.board import Footnote

RowId = tuple[str, str]
Holders = dict[str, dict[RowId, None]]
"""Rows by the digest that they have of one thing."""


def origin_notes(
    entries: Sequence[Entry], different: Apart, standing: Standing | None
) -> Iterator[Footnote]:
    """Yield the footnotes on what is missing, and on rows whose origins are not those of the rest.

    Args:
        entries: All rows.
        different: Data of rows that are not their baseline's, as `harness.report.apart.apart`.
        standing: The plan of the records; None where there is none.
    """
    if standing is not None:
        yield from map(Footnote, standing.gaps())
        yield from _older(entries, standing.older)
    yield from _unrecorded(entries)
    yield from _code(entries)
    yield from _data(entries, different)
    yield from _calibration(entries)
    yield from _environments(entries)


def _older(entries: Iterable[Entry], reasons: Mapping[str, str]) -> Iterator[Footnote]:
    rows: dict[str, dict[RowId, None]] = defaultdict(dict)
    for entry in entries:
        for record in entry.records:
            if record.cell in reasons:
                rows[reasons[record.cell].rstrip(".")][entry.id] = None
    for reason, marked in rows.items():
        yield Footnote(f"Of older code or data: {reason}.", rows=tuple(marked))


def _unrecorded(entries: Sequence[Entry]) -> Iterator[Footnote]:
    rows = [entry.id for entry in entries if any(record.basis is None for record in entry.ok)]
    if rows:
        everywhere = len(rows) == sum(bool(entry.ok) for entry in entries)
        who = "All rows are of" if everywhere else "Of"
        text = f"{who} a moebench that did not record its code."
        yield Footnote(text, rows=() if everywhere else tuple(rows))


def _code(entries: Sequence[Entry]) -> Iterator[Footnote]:
    """Rows whose code is not that of most.

    What of a module is reached while compressing depends on the methods: there rows of the same
    methods are compared.
    """
    holders: dict[tuple[Module, tuple[str, ...]], Holders] = defaultdict(lambda: defaultdict(dict))
    for entry in entries:
        for record in entry.ok:
            for module, digest in code_of(record).items():
                like = entry.methods if module[0] == "compress" else ()
                holders[module, like][digest][entry.id] = None
    apart = {key: rows for key, rows in holders.items() if len(rows) > 1}
    if apart:
        marked = {row for digests in apart.values() for row in _fewer(digests)}
        modules = by_stage({module for module, _ in apart}, MOST)
        yield Footnote(
            f"Computed by other code than the rest ({modules}).", rows=_ordered(entries, marked)
        )


def _data(entries: Sequence[Entry], different: Apart) -> Iterator[Footnote]:
    rows: dict[tuple[str, ...], list[RowId]] = defaultdict(list)
    columns: dict[tuple[str, ...], dict[str, None]] = defaultdict(dict)
    for entry in entries:
        if apart := different.get(entry.id):
            names = tuple(sorted({name for listed in apart.values() for name in listed}))
            rows[names].append(entry.id)
            columns[names] |= dict.fromkeys(apart)
    for names, marked in rows.items():
        yield Footnote(
            f"Evaluated on other data than the baseline, or than each other's seeds: "
            f"{some(names)}. Such numbers are not compared: there is no difference and no best.",
            tuple(columns[names]),
            tuple(marked),
        )


def _calibration(entries: Sequence[Entry]) -> Iterator[Footnote]:
    holders: dict[str, Holders] = defaultdict(lambda: defaultdict(dict))
    for entry in entries:
        for record in entry.ok:
            for name, digest in calibration_data(record).items():
                holders[name][digest][entry.id] = None
    apart = {name: rows for name, rows in holders.items() if len(rows) > 1}
    if apart:
        marked = {row for digests in apart.values() for row in _fewer(digests)}
        text = f"Calibrated on other files of {some(sorted(apart))} than the rest."
        yield Footnote(text, rows=_ordered(entries, marked))


def _environments(entries: Sequence[Entry]) -> Iterator[Footnote]:
    pairs = [
        (entry.id, tuple(record.environment.decisive.items()))
        for entry in entries
        for record in entry.ok
        if record.environment
    ]
    common = Counter(facts for _, facts in pairs).most_common(1)
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for _, facts in pairs:
        for name, value in facts:
            values[name][value] = None
    told = [f"{name} {' or '.join(known)}" for name, known in values.items() if len(known) > 1]
    if told:
        marked = {row for row, facts in pairs if facts != common[0][0]}
        text = f"Of other versions or another machine than the rest: {'; '.join(told)}."
        yield Footnote(text, rows=_ordered(entries, marked))


def _fewer(digests: Holders) -> set[RowId]:
    """Rows of all digests but the one that most rows have; of equally many, the first."""
    most = max(digests.values(), key=len)
    return {row for rows in digests.values() if rows is not most for row in rows}


def _ordered(entries: Iterable[Entry], marked: set[RowId]) -> tuple[RowId, ...]:
    return tuple(entry.id for entry in entries if entry.id in marked)
