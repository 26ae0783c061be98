"""Figures of hostile names: files that are read back, and words drawn as they are."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import Comment, ParseError, TreeBuilder, XMLParser

import pytest
from matplotlib.axes import Axes

from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.report.figures.canvas import draw
from harness.report.figures.page import LONGEST, Panel, named, page, save
from harness.report.figures.usage import _file
from harness.words import told
from tests.hostile import NAMES, PLAIN

Words = Callable[[Path], list[str]]


@pytest.fixture
def words() -> Words:
    """The texts of an SVG: matplotlib draws their letters, and notes each text in a comment."""

    def read(path: Path) -> list[str]:
        parser = XMLParser(target=TreeBuilder(insert_comments=True))  # noqa: S314 - our own file
        parser.feed(path.read_bytes())
        root = parser.close()
        return [str(node.text)[1:-1] for node in root.iter(Comment)]  # type: ignore[arg-type]

    return read


def _commented(text: str) -> str:
    return "- ".join(f"{text} ".split("-"))[:-1] if "--" in text else text


def test_an_svg_shows_every_name(tmp_path: Path, words: Words) -> None:
    def panel(axes: Axes) -> None:
        for name in (*NAMES, *PLAIN):
            axes.plot([0, 1], label=named(name))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = page(NAMES[0], [Panel(NAMES[1], panel)], NAMES[2])
        png, svg = save(figure, tmp_path, "figure")
    assert png.read_bytes().startswith(b"\x89PNG")
    drawn = {"".join(html.unescape(text).split()) for text in words(svg)}
    for name in (*NAMES, *PLAIN):
        for line in name.split("\n"):
            text = told(line, LONGEST)
            if text.strip():
                assert "".join(_commented(text).split()) in drawn


def test_all_figures_of_hostile_rows(
    records: list[Record], protocol: Protocol, tmp_path: Path, words: Words
) -> None:
    """Rows and models of every kind of figure have names that no file may have."""
    odd = [
        record.model_copy(
            update={
                "row": f"{record.row}{NAMES[place % len(NAMES)]}$\\frac{{\x1b",
                "model": record.model.model_copy(
                    update={"label": f"../{record.model.label}\x1b[2J" + "n" * 300}
                ),
            }
        )
        for place, record in enumerate(records)
    ]
    paths = draw(odd, protocol, tmp_path / "figures")
    assert {path.parent for path in paths} == {tmp_path / "figures"}
    for path in paths:
        if path.suffix == ".svg":
            assert all(text.isprintable() for text in words(path))


def test_names_of_files_are_short_and_differ() -> None:
    names: list[str] = []
    for model in (*NAMES, *PLAIN):
        names.append(_file(model, names))
        assert set(names[-1]) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert 0 < len(names[-1]) < 100
    assert len(set(names)) == len(names)
    assert _file("reference/qwen2-moe", []) == "reference-qwen2-moe"


def test_the_parser_refuses_what_was_drawn_before() -> None:
    with pytest.raises(ParseError):
        XMLParser().feed("<svg><!-- \x1b[31mred --></svg>")  # noqa: S314 - our own text
