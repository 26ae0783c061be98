"""A leaderboard whose foreign words are visible lines, as every format begins with it."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

from harness.report.board import Leaderboard
from harness.words import NAME, SENTENCE, shown, told


def visible(board: Leaderboard, *, whole: bool = False) -> Leaderboard:
    """Return a leaderboard with all names, titles and sentences as `harness.words` shows them.

    Args:
        board: The leaderboard.
        whole: Cut nothing, however long it is.
    """
    name = partial(shown, most=sys.maxsize if whole else NAME)
    sentence = partial(told, most=sys.maxsize if whole else SENTENCE)
    rows = tuple(
        replace(
            row,
            model=name(row.model),
            name=name(row.name),
            reason=sentence(row.reason),
            suite=name(row.suite),
            methods=tuple(map(name, row.methods)),
            cells=tuple(map(name, row.cells)),
        )
        for row in board.rows
    )
    columns = tuple(replace(column, title=name(column.title)) for column in board.columns)
    notes = tuple(
        replace(
            note,
            text=sentence(note.text),
            rows=tuple((name(model), name(row)) for model, row in note.rows),
        )
        for note in board.footnotes
    )
    return Leaderboard(sentence(board.caption), columns, rows, notes)
