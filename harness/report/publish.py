"""Leaderboards and figures that are written beside the records of a results folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cache.writing import no_space
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

    board = board_of(store)
    for form in PUBLISHED_FORMATS:
        store.put(store.folder / f"leaderboard.{form}", render(board, form).encode())
    with no_space(store.folder):
        draw(store.planned(), store.plan().protocol, store.folder, judged(store))
    return board


def board_of(store: Store) -> Leaderboard:
    """Return the leaderboard of the cells that ran last in a results folder."""
    from harness.report.leaderboard import leaderboard

    plan = store.plan()
    rows = tuple(dict.fromkeys(cell.row for cell in plan.cells))
    return leaderboard(store.planned(), plan.protocol, rows)
