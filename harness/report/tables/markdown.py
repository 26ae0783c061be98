"""The leaderboard as GitHub markdown: one table for accuracy, one for cost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.report.board import Column, Leaderboard, Row
from harness.report.tables.text import MISSING, blocks, by_model, header, label, sources, values

CAPTIONS = {"accuracy": "Accuracy", "cost": "Size and speed"}


def markdown(board: Leaderboard) -> str:
    """Return a leaderboard as markdown: the best compressed row of each model is bold.

    Footnotes are the numbered list below.
    """
    lines = [_escape(board.caption) + "; bold: best compressed row of its model.", ""]
    for columns in blocks(board, 10**6, lambda column: 1):
        lines += [f"**{CAPTIONS[columns[0].group]}**", "", *_table(board, columns), ""]
    lines += [f"{number}. {_escape(note.text)}" for number, note in enumerate(board.footnotes, 1)]
    return "\n".join(lines).rstrip() + "\n"


def _table(board: Leaderboard, columns: Sequence[Column]) -> Iterator[str]:
    cost = columns[0].group == "cost"
    titles = [_escape(header(board, column)) for column in columns]
    yield _line(["model", "recipe", *titles, *(["records"] if cost else [])])
    yield _line(["---", "---", *["---:"] * len(columns), *(["---"] if cost else [])])
    ids = sources(board)
    for model, rows in by_model(board):
        for row in rows:
            if cost and row.kind == "level":
                continue
            last = [" ".join(f"`{cell}`" for cell in ids[row.id])] if cost else []
            yield _line([_escape(model), _name(board, row), *_cells(row, columns), *last])


def _name(board: Leaderboard, row: Row) -> str:
    name = _escape(label(board, row))
    return f"*{name}*" if row.kind == "level" else name


def _cells(row: Row, columns: Sequence[Column]) -> list[str]:
    texts = [_escape(text) for text in values(row, columns)]
    pairs = zip(columns, texts, strict=True)
    return [f"**{text}**" if column.key in row.best else text for column, text in pairs]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell or MISSING for cell in cells)} |"


def _escape(text: str) -> str:
    """Escape what GitHub would read as markup; an underscore inside a word is not."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|*`~]|(?<!\w)_|_(?!\w))", r"\\\1", text)
