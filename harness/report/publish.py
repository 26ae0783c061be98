"""Leaderboards and figures that are written beside the records of a results folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.disk.writing import no_space
from harness.records.standing import Standing, standing
from harness.records.store import Store

if TYPE_CHECKING:
    from harness.report.board import Leaderboard

PUBLISHED_FORMATS = ("md", "csv", "tex")
"""Formats in which a leaderboard is written beside its records."""


def publish(store: Store) -> Leaderboard:
    """Write the leaderboard and the figures that follow from the records, and return it."""
    from harness.report.figures.canvas import draw
    from harness.report.figures.paper import judged
    from harness.report.tables import render

    run = standing(store)
    board = _board(run)
    for form in PUBLISHED_FORMATS:
        store.put(store.folder / f"leaderboard.{form}", render(board, form).encode())
    with no_space(store.folder):
        draw(run.records, run.plan.protocol, store.folder, judged(store))
    return board


def board_of(store: Store) -> Leaderboard:
    """Return the leaderboard of the cells that ran last in a results folder.

    Raises:
        UserError: there was no run, its plan is damaged, or a record is of a newer moebench.
    """
    return _board(standing(store))


def _board(run: Standing) -> Leaderboard:
    from harness.report.leaderboard import leaderboard

    rows = tuple(dict.fromkeys(cell.row for cell in run.plan.cells))
    return leaderboard(run.records, run.plan.protocol, rows, run)
