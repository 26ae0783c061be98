"""The leaderboard as GitHub markdown: one table for accuracy, one for cost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.report.board import Column, Leaderboard, Row
from harness.report.tables.text import MISSING, blocks, by_model, header, label, sources, values

CAPTIONS = {"accuracy": "Accuracy", "cost": "Size and speed"}
_MARKUP = re.compile(
    r"[\\|*`~$\[\]]|(?<![^\W_])_|_(?![^\W_])"  # an underscore inside a word is none
    r"|:(?=//)|(?i:(?<=\bwww))\.|(?<=[\w.+-])@(?=[\w-]+\.)"  # GitHub makes links of addresses
)
_BLOCK = re.compile(r"^([#>+=-]|\d+(?=[.)]))")
_CODE = re.compile(r"[\w.-]+")


def markdown(board: Leaderboard) -> str:
    """Return a leaderboard as markdown: the best compressed row of each model is bold.

    Footnotes are the numbered list below.
    """
    lines = [_sentence(board.caption) + "; bold: best compressed row of its model.", ""]
    for columns in blocks(board, 10**6, lambda column: 1):
        lines += [f"**{CAPTIONS[columns[0].group]}**", "", *_table(board, columns), ""]
    lines += [f"{number}. {_sentence(note.text)}" for number, note in enumerate(board.footnotes, 1)]
    return "\n".join(lines).rstrip() + "\n"


def _table(board: Leaderboard, columns: Sequence[Column]) -> Iterator[str]:
    cost = columns[0].group == "cost"
    escaped = [replace(column, title=escape(column.title)) for column in columns]
    titles = [header(board, column) for column in escaped]
    yield _line(["model", "recipe", *titles, *(["records"] if cost else [])])
    yield _line(["---", "---", *["---:"] * len(columns), *(["---"] if cost else [])])
    ids = sources(board)
    for model, rows in by_model(board):
        for row in rows:
            if cost and row.kind == "level":
                continue
            last = [" ".join(map(_code, ids[row.id]))] if cost else []
            yield _line([escape(model), _name(board, row), *_cells(row, columns), *last])


def _name(board: Leaderboard, row: Row) -> str:
    name = label(board, row, escape)
    return f"*{name}*" if row.kind == "level" else name


def _cells(row: Row, columns: Sequence[Column]) -> list[str]:
    pairs = zip(columns, values(row, columns), strict=True)
    return [f"**{text}**" if column.key in row.best else text for column, text in pairs]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell or MISSING for cell in cells)} |"


def escape(text: str) -> str:
    """Return a name or a sentence so that GitHub reads no markup in it, and makes no link of it."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(r"\\\g<0>", text)


def _sentence(text: str) -> str:
    """A sentence on a line of its own, where some beginnings are markup too."""
    start = _BLOCK.match(text)
    if start is None:
        return escape(text)
    first, rest = start[0], text[start.end() :]
    return f"{first}\\{escape(rest)}" if first.isdigit() else f"\\{first}{escape(rest)}"


def _code(cell: str) -> str:
    return f"`{cell}`" if _CODE.fullmatch(cell) else escape(cell)
