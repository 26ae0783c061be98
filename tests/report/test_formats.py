from __future__ import annotations

import csv
import io
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.report.board import Leaderboard
from harness.report.leaderboard import leaderboard
from harness.report.tables import render
from harness.report.tables.latex import escape

ORDER = ("baseline", "eep 4 of 8", "eep 6 of 8 + wanda 2:4", "random 4 of 8")


@pytest.fixture
def board(records: list[Record], protocol: Protocol) -> Leaderboard:
    return leaderboard(records, protocol, ORDER)


def _render(board: Leaderboard, format: str) -> str:
    return render(board, format, width=100, colour=False)


def _lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("format", ["terminal", "md", "csv", "tex"])
def test_same_records_give_the_golden_table(
    format: str, board: Leaderboard, golden: Callable[[str, str], None]
) -> None:
    golden(f"leaderboard.{'txt' if format == 'terminal' else format}", _render(board, format))


@pytest.mark.parametrize("format", ["terminal", "md", "csv", "tex"])
def test_the_order_of_the_records_does_not_matter(
    format: str, records: list[Record], protocol: Protocol, board: Leaderboard
) -> None:
    expected = _render(board, format)
    for seed in range(5):
        shuffled = random.Random(seed).sample(records, len(records))
        assert _render(leaderboard(shuffled, protocol, ORDER), format) == expected


def test_no_records_make_an_empty_table(protocol: Protocol) -> None:
    for format in ("terminal", "md", "csv", "tex"):
        assert _render(leaderboard([], protocol), format)


def test_an_unknown_format_is_refused(board: Leaderboard) -> None:
    with pytest.raises(UserError, match=r"unknown format 'cvs'\. Did you mean 'csv'"):
        render(board, "cvs")


def test_a_narrow_terminal_gets_more_tables_and_loses_no_number(board: Leaderboard) -> None:
    wide = render(board, "terminal", width=400, colour=False)
    narrow = render(board, "terminal", width=60, colour=False)
    assert max(map(len, narrow.splitlines())) <= 60
    assert narrow.count("─\n") > wide.count("─\n") == 3
    assert "…" not in narrow
    number = "[+\N{MINUS SIGN}]?" r"\d+\.\d+\*?"
    assert sorted(re.findall(number, narrow)) == sorted(re.findall(number, wide))


def test_a_terminal_of_colours_has_no_stars(board: Leaderboard) -> None:
    text = render(board, "terminal", width=100, colour=True)
    assert re.search(r"\x1b\[1;32m *93\.0\x1b", text)
    assert not re.search(r"\d\*", text)
    assert "\x1b" not in _render(board, "terminal")


def test_names_are_not_read_as_markup(board: Leaderboard) -> None:
    rows = [replace(row, name=row.name.replace("eep", "[red]*eep*|")) for row in board.rows]
    odd = replace(board, rows=tuple(rows))
    assert "[red]*eep*| 4 of 8" in _render(odd, "terminal")
    assert r"| \[red\]\*eep\*\| 4 of 8 |" in _render(odd, "md")


def test_markdown_tables_have_as_many_cells_in_every_line(board: Leaderboard) -> None:
    lines = [line for line in _render(board, "md").splitlines() if line.startswith("|")]
    counts = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert len(counts) == 2  # one table for accuracy, one for cost


def test_csv_has_full_precision_and_empty_cells(board: Leaderboard) -> None:
    lines = {(line["model"], line["row"]): line for line in _lines(_render(board, "csv"))}
    assert len(lines) == 9
    mean = lines["reference/mixtral", "random 4 of 8"]
    assert float(mean["arc_challenge.acc"]) == pytest.approx(0.8, abs=1e-15)
    assert float(mean["arc_challenge.acc.sd"]) == pytest.approx(0.06, abs=1e-15)
    assert float(mean["arc_challenge.acc.delta"]) == pytest.approx(-0.17, abs=1e-15)
    assert mean["arc_challenge.acc.n"] == "3"
    assert len(mean["cells"].split()) == 3
    one = lines["reference/mixtral", "eep 4 of 8"]
    assert one["arc_challenge.acc"] == "0.93"
    assert one["arc_challenge.acc_norm"] == "0.94"
    assert one["arc_challenge.majority"] == "0.295"
    assert (one["speed.decode.low"], one["speed.decode.high"]) == ("1.16", "1.23")
    assert one["speed.decode.seconds"] == "0.2"
    assert one["size.artifact_bytes"] == "1876800"
    assert one["arc_challenge.acc.sd"] == ""
    missing = lines["acme/my_moe & sons", "block-drop 1"]
    assert missing["rte.acc"] == missing["average"] == missing["speed.decode.speedup"] == ""


def test_csv_has_no_column_twice(board: Leaderboard) -> None:
    names = _render(board, "csv").splitlines()[0].split(",")
    assert len(names) == len(set(names))


def test_latex_escapes_what_latex_would_read() -> None:
    assert escape("a_b & 50% #1 $x {y} ~z ^w") == (
        r"a\_b \& 50\% \#1 \$x \{y\} \textasciitilde{}z \textasciicircum{}w"
    )
    assert escape("\\bad") == r"\textbackslash{}bad"
    assert escape("--limit") == "-{}-limit"
    assert escape("café 猫 I²") == r"caf\'{e} \textbackslash{}u732b I$^2$"
    assert escape("Việt --- ''x'' ?`") == r"Vi\^{\d{e}}t -{}-{}- '{}'x'{}' ?{}`"


def test_latex_has_no_character_that_latex_lacks(board: Leaderboard) -> None:
    assert _render(board, "tex").isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_with_booktabs_alone(board: Leaderboard, tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        f"{_render(board, 'tex')}\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
