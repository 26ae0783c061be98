"""Tables of hostile names, read back by what reads each format: nothing but text is in them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyte
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from harness.report.board import Column, Footnote, Leaderboard, Row, Value
from harness.report.tables import render
from harness.report.tables.latex import escape
from harness.words import shown, told
from tests.hostile import NAMES, PLAIN

WIDTH = 160
EVERY = (*NAMES, *PLAIN)
COLUMNS = (
    Column("one", "acc", direction="higher", group="accuracy", scale=100.0),
    Column("two", "size", "B", "lower", 4, scale="si"),
)


def board_of(names: Sequence[str]) -> Leaderboard:
    """A board whose every name is hostile: model, row, suite, task, method, cell and reason."""
    rows = [
        Row(
            *(f"m{name}", name, "method"),
            reason=name,
            suite=name,
            methods=(name,),
            seeds=(-1,),
            cells=(f"{name}{place}",),
            values={"one": Value(0.5), "two": Value(-2e9), name: Value(-1.0)},
            deltas={"one": -0.25},
        )
        for place, name in enumerate(names)
    ]
    columns = [Column(name, name, group="accuracy") for name in names[:3]]
    notes = [Footnote(name, (), (row.id,)) for name, row in zip(names, rows, strict=True)]
    return Leaderboard(names[0], (COLUMNS[0], *columns, COLUMNS[1]), tuple(rows), tuple(notes))


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    return board_of(EVERY)


def test_csv_is_text_and_numbers(board: Leaderboard) -> None:
    titles, *lines = csv.reader(io.StringIO(render(board, "csv")), strict=True)
    assert len(lines) == len(EVERY)
    for cell in (*titles, *(cell for line in lines for cell in line)):
        assert cell.isprintable()
        assert not re.match(r"[=+\-@\t\r\n]", cell) or float(cell) < 0
    assert {line[titles.index("two")] for line in lines} == {"-2000000000"}
    rows = [line[titles.index("row")] for line in lines]
    assert len(set(rows)) == len(rows)
    assert "-5" not in rows  # a name; a spreadsheet would make a number of it
    unguarded = [re.sub(r"^'(?='*[=+\-@\uff1d])", "", row) for row in rows]
    assert unguarded == [shown(name, 10**6) for name in EVERY]


def _tokens(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _tokens(token.children or ())


def _text(token: Token) -> str:
    return "".join(child.content for child in token.children or ())


@pytest.fixture(scope="module")
def parsed(board: Leaderboard) -> list[Token]:
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return reader.parse(render(board, "md"))


def test_markdown_is_two_tables_and_a_list_of_plain_text(parsed: list[Token]) -> None:
    kinds = {token.type for token in _tokens(parsed)}
    tags = r"(table|thead|tbody|tr|th|td|paragraph|strong|ordered_list|list_item)_(open|close)"
    assert {kind for kind in kinds if not re.fullmatch(tags, kind)} <= {
        *("inline", "text", "code_inline"),
    }
    assert [token.type for token in parsed if token.level == 0].count("table_open") == 2
    bold = [token for token in _tokens(parsed) if token.type == "strong_open"]
    assert len(bold) == 2  # the captions of the tables


def test_markdown_shows_every_name_and_note(parsed: list[Token]) -> None:
    opened = [token.type for token in parsed]
    cells = [parsed[i + 1] for i, kind in enumerate(opened) if kind == "td_open"]
    across = 2 + 4  # model and row, the first column, and three of hostile names
    rows = [cells[place : place + across] for place in range(0, len(EVERY) * across, across)]
    for number, (name, row) in enumerate(zip(EVERY, rows, strict=True), 1):
        assert _text(row[0]) == shown(f"m{name}")
        assert _text(row[1]) == f"{shown(name)} [{number}]"
    start = opened.index("ordered_list_open")
    notes = [
        parsed[i + 1] for i, kind in enumerate(opened) if i > start and kind == "paragraph_open"
    ]
    assert [_text(note) for note in notes] == [told(name).strip() for name in EVERY]


def test_markdown_has_no_address_that_github_makes_a_link_of(board: Leaderboard) -> None:
    text = re.sub(r"`[^`]+`", "", render(board, "md"))  # no link is made of code
    assert not re.search(r"(?<!\\)://|\bwww\.|[\w.+-]@[\w-]+\.", text)


def _screen(text: str, height: int) -> pyte.Screen:
    screen = pyte.Screen(WIDTH, height)
    stream = pyte.Stream(screen)
    stream.feed(text.replace("\n", "\r\n"))
    return screen


@pytest.mark.parametrize("colour", [False, True])
def test_a_terminal_shows_text_and_stays_what_it_is(board: Leaderboard, colour: bool) -> None:
    text = render(board, "terminal", width=WIDTH, colour=colour)
    height = text.count("\n") + 1
    screen = _screen(text, height)
    fresh = pyte.Screen(WIDTH, height)
    assert (screen.mode, screen.title, screen.margins) == (fresh.mode, fresh.title, fresh.margins)
    assert screen.cursor.attrs == fresh.cursor.attrs
    assert (screen.cursor.x, screen.cursor.y) == (0, height - 1)
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert all(letter.isprintable() for letter in plain.replace("\n", ""))
    if not colour:
        assert plain == text
        shows = [line.rstrip() for line in screen.display[:-1]]
        assert [_columns(line) for line in shows] == [_columns(line) for line in text.splitlines()]
    looks = {
        (cell.fg, cell.bg, cell.reverse) for y in screen.buffer.values() for cell in y.values()
    }
    assert looks <= {("default", "default", False), ("green", "default", False)}


def _columns(line: str) -> str:
    """A line without blanks, which stand on a screen behind letters two columns wide too."""
    return line.replace(" ", "")


def test_a_terminal_tells_names_apart(board: Leaderboard) -> None:
    text = render(board, "terminal", width=400, colour=False)
    for name in EVERY:
        assert shown(name)[:100].strip() in text
    assert max(map(len, text.splitlines())) <= 400


LATEX = re.compile(
    r"\\(textbackslash|textasciitilde|textasciicircum|textemdash|textendash|ldots|ss|ae|AE|o|O)\{\}"
    r"|\\[&%#_${}]"
    r"|\$(<|>|\||-|\\pm|\\times|\\Delta|\\uparrow|\\downarrow|\^\d)\$"
    r"|\{[\[*]\}|\{\}"
    r"|(\\[`'^~=u.\"rHvdcb]\{)+[A-Za-z]\}+"
    r"|[^\\{}$&%#_^~]"
)


@pytest.mark.parametrize("name", EVERY, ids=range(len(EVERY)))
def test_latex_is_text_to_the_last_letter(name: str) -> None:
    text = escape(shown(name))
    assert text.isascii()
    place = 0
    while place < len(text):
        token = LATEX.match(text, place)
        assert token, text[place:]
        assert len(token[0]) == 2 or token[0].count("{") == token[0].count("}")
        place = token.end()
    assert not re.search(r"--|``|''|[?!]`", text)


def test_latex_tells_names_apart() -> None:
    assert len({escape(shown(name)) for name in EVERY}) == len(EVERY)


def test_latex_has_as_many_cells_in_every_line(board: Leaderboard) -> None:
    lines = render(board, "tex").splitlines()
    begins = [line for line in lines if line.startswith(r"\begin{tabular}")]
    assert len(begins) == lines.count(r"\end{tabular}")
    counts = {len(re.findall(r"(?<!\\) & ", line)) for line in lines if line.endswith(r" \\")}
    assert counts <= {0, 1, 2, 3, 4}  # of columns, of which a table has at most four
    assert not [line for line in lines if re.match(r"\\(input|write|end\{document)", line)]


@pytest.mark.parametrize("format", ["terminal", "md", "tex"])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_names_stay_as_they_are(name: str, format: str) -> None:
    row = Row("model", name, "method", values={"one": Value(0.5)})
    board = Leaderboard("caption", COLUMNS, (row,), ())
    text = render(board, format, width=100, colour=False)
    escapes = {"md": {"&": "&amp;", "\\": r"\\"}, "tex": {"&": r"\&", "_": r"\_"}}.get(format, {})
    for letter, escaped in escapes.items():
        name = name.replace(letter, escaped)
    if name.isascii() or format != "tex":
        assert name.replace("\\new", r"\textbackslash{}new") in text or name in text


def test_a_row_is_marked_whatever_its_name_is() -> None:
    board = board_of(NAMES[:4])
    assert replace(board, rows=board.rows[:1]).row_marks(board.rows[0]) == (1,)
