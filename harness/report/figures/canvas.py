"""All figures of a suite on files: functions of its records and their notes.

A figure whose data no record has is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.judge.verdict import Verdicts
from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.report.figures.convergence import convergence
from harness.report.figures.dropping import dropping
from harness.report.figures.importance import importance
from harness.report.figures.page import STYLE, Drawing, save
from harness.report.figures.paper import paper
from harness.report.figures.reception_field import reception_field
from harness.report.figures.similarity import similarity
from harness.report.figures.trade_off import trade_off
from harness.report.figures.usage import usage

FIGURES: tuple[Callable[[Sequence[Record], Protocol], Iterator[Drawing]], ...] = (
    trade_off,
    dropping,
    usage,
    similarity,
    importance,
    convergence,
    reception_field,
)
"""The figures of records, in the order in which they are drawn."""


def draw(
    records: Sequence[Record], protocol: Protocol, folder: Path, verdicts: Verdicts | None = None
) -> list[Path]:
    """Draw accuracy against size, and every figure that the records have the data for.

    Args:
        records: Records of one protocol, in any order; only those that are ok are drawn.
        protocol: The protocol that the records were made under.
        folder: Folder of the files; made if it does not exist.
        verdicts: Verdicts on a published table, which follow from the records too.

    Returns:
        A PNG and an SVG for each figure; the same records give the same bytes.

    Raises:
        UserError: a record of another protocol, or two records for one row and seed.
    """
    import matplotlib as mpl

    paths: list[Path] = []
    with mpl.rc_context(STYLE):
        for figure in FIGURES:
            for name, drawn in figure(records, protocol):
                paths += save(drawn, folder, name)
        for name, drawn in paper(verdicts) if verdicts else ():
            paths += save(drawn, folder, name)
    return paths
