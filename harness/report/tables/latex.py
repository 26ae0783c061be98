r"""The leaderboard as LaTeX: tables that need \usepackage{booktabs} and nothing else."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from harness import words
from harness.report.board import Column, Leaderboard, Row
from harness.report.tables.text import (
    MINUS,
    TIMES,
    blocks,
    by_model,
    header,
    label,
    sources,
    values,
)

WIDTH = 88
"""Characters of \\scriptsize in a line of the single column of LaTeX's class article."""

ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "—": r"\textemdash{}",
    "[": "{[}",  # after a line break it would begin an argument, and so would a star
    "*": "{*}",
    MINUS: "$-$",
    "±": r"$\pm$",
    TIMES: r"$\times$",
    "Δ": r"$\Delta$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "…": r"\ldots{}",
    "\u2013": r"\textendash{}",
    "\u2018": r"\textquoteleft{}",
    "\u2019": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0323": "d",
    "\u0327": "c",
    "\u0331": "b",
}
"""Commands of accents, by the mark that follows its letter."""
SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
LIGATURES = frozenset({"--", "''", "``", "?`", "!`", ",,"})
"""Pairs that the fonts would set as another character."""


def latex(board: Leaderboard) -> str:
    """Return a leaderboard as LaTeX: the best compressed row of each model is bold.

    Footnotes follow the last table.
    """
    names = max((len(label(board, row)) for row in board.rows), default=6)
    tables = blocks(board, max(WIDTH - names, 24), lambda column: _width(board, column) + 2)
    lines = [r"% Needs \usepackage{booktabs}."]
    for columns in tables:
        lines += _table(board, columns)
    lines += [r"\begingroup\scriptsize", *_notes(board), *_sources(board), r"\par\endgroup"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return text as pdflatex must read it to print it.

    Letters keep their accents; one that its fonts lack is printed as its number.
    """
    pairs = zip(f" {text}", text, strict=False)
    return "".join(
        ("{}" if before + character in LIGATURES else "") + _character(character)
        for before, character in pairs
    )


def _character(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    if character.isascii():
        return character if character.isprintable() else " "
    letter, *marks = list(unicodedata.normalize("NFD", character))
    if marks and letter.isascii() and letter.isalpha() and all(mark in ACCENTS for mark in marks):
        for mark in marks:
            letter = rf"\{ACCENTS[mark]}{{{letter}}}"
        return letter
    if character in SUPERSCRIPTS:
        return f"$^{SUPERSCRIPTS.index(character)}$"
    return words.number(character).replace("\\", ESCAPES["\\"])


def _width(board: Leaderboard, column: Column) -> int:
    texts = [values(row, [column])[0] for row in board.rows]
    return max(len(text) for text in (*texts, header(board, column)))


def _table(board: Leaderboard, columns: Sequence[Column]) -> Iterator[str]:
    yield r"\begin{table}[htbp]"
    yield r"\centering\scriptsize\setlength{\tabcolsep}{3pt}"
    yield rf"\caption{{{escape(board.caption)}; bold: best compressed row of its model.}}"
    yield rf"\begin{{tabular}}{{l{'r' * len(columns)}}}"
    yield r"\toprule"
    yield _line(["", *(escape(header(board, column)) for column in columns)])
    for model, rows in by_model(board):
        yield r"\midrule"
        yield rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{\textit{{{escape(model)}}}}} \\"
        for row in rows:
            if row.kind != "level" or columns[0].group == "accuracy":
                yield _line([escape(label(board, row)), *_cells(row, columns)])
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def _cells(row: Row, columns: Sequence[Column]) -> list[str]:
    pairs = zip(columns, values(row, columns), strict=True)
    return [
        rf"\textbf{{{escape(text)}}}" if column.key in row.best else escape(text)
        for column, text in pairs
    ]


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _notes(board: Leaderboard) -> Iterator[str]:
    for number, note in enumerate(board.footnotes, start=1):
        yield rf"\par\noindent [{number}] {escape(note.text)}"


def _sources(board: Leaderboard) -> Iterator[str]:
    ids = sources(board)
    yield r"\par\medskip\noindent Records:"
    for model, rows in by_model(board):
        listed = "; ".join(f"{row.name}: {' '.join(ids[row.id])}" for row in rows if row.cells)
        yield rf"\par\noindent {escape(model)}: {escape(listed)}."
