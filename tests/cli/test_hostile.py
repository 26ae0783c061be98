"""Hostile names through the verbs: what reaches the terminal is text, and JSON stays JSON."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyte
import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import UserError
from harness.records.protocol import Protocol
from harness.records.store import Store
from harness.run.progress import Progress
from harness.words import shown, told
from tests.cells import make_cell
from tests.hostile import NAMES
from tests.records.made_up import items, record, store

Invoke = Callable[..., tuple[int, str]]
ROWS = [name for name in NAMES if len(name) < 100]


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    def run(*arguments: str) -> tuple[int, str]:
        told = CliRunner().invoke(app, [*arguments, "--results", str(tmp_path)])
        assert not told.exception or isinstance(told.exception, SystemExit), told.output
        return told.exit_code, told.stdout + told.stderr

    return run


@pytest.fixture
def results(tmp_path: Path) -> Store:
    """Rows, models and reasons of every hostile name; half of the rows have failed."""
    protocol = Protocol(tasks=("boolq",), average=("boolq",), perplexity=(), measure=("size",))
    cells = []
    for place, name in enumerate(ROWS):
        failed: dict[str, Any] = {
            "status": "failed",
            "reason": f"Traceback\n{name}",
            "warnings": [name],
        }
        made = record(
            name,
            {"boolq": 0.5},
            protocol=protocol,
            cell=f"{place:04}",
            **(failed if place % 2 else {}),
        )
        cells.append((made, items([True, False])))
    return store(tmp_path / "mine", protocol, cells)


def is_text(output: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in output)


@pytest.mark.parametrize("form", ["terminal", "md", "csv", "tex"])
def test_the_leaderboard_is_text(form: str, results: Store, invoke: Invoke) -> None:
    code, output = invoke("leaderboard", "mine", "--format", form)
    assert code == 0
    assert is_text(output)


def test_the_gate_is_text(results: Store, invoke: Invoke) -> None:
    code, output = invoke("gate", "mine", "--baseline", str(results.folder), "--perplexity", "5")
    assert code == 0
    assert is_text(output)
    for name in ROWS:
        assert f"  {shown(name)}  " in output


def test_one_record_is_text_and_json(results: Store, invoke: Invoke) -> None:
    for place, name in enumerate(ROWS):
        code, output = invoke("show", f"{place:04}")
        assert (code, is_text(output)) == (0, True)
        first, *rest = told(f"mine, {name}, 0").split()
        assert " ".join([first, *rest]) in " ".join(output.split())
    _, output = invoke("show", "0008", "--json")
    assert is_text(output)
    assert json.loads(output)["row"] == ROWS[8]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_an_error_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise UserError(f"row {name}: wrong.")

    monkeypatch.setattr("harness.records.store.Store.plan", fail)
    told = CliRunner().invoke(app, ["leaderboard", "mine"])
    assert told.exit_code == 2
    assert is_text(told.stderr)
    assert told.stderr.count("\n") == 1
    assert told.stderr.startswith("moebench: row ")


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_leaves_the_terminal_as_it_was(terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, soft_wrap=True, width=500, height=400)
    progress = Progress(console)
    for number, name in enumerate(ROWS, 1):
        cell = make_cell(name)
        with progress.cell(number, len(ROWS), cell):
            progress.phase(name)
        progress.finished(cell.record("failed", 0.1, reason=name), cell.protocol)
        progress.tell([name])
    screen = pyte.Screen(500, 4 * len(ROWS) + 5)
    pyte.Stream(screen).feed(out.getvalue().replace("\n", "\r\n"))
    fresh = pyte.Screen(500, 4 * len(ROWS) + 5)
    assert (screen.title, screen.mode, screen.cursor.attrs) == (
        *(fresh.title, fresh.mode, fresh.cursor.attrs),
    )
    lines = [line for line in screen.display if line.startswith("cell ")]
    assert len(lines) == len(ROWS)
    for line, name in zip(lines, ROWS, strict=True):
        told_ = told(f"acme/tiny  {name}  seed 0  failed")
        assert re.sub(r"\s", "", told_) in re.sub(r"\s", "", line)
