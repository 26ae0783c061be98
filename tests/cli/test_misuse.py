"""A command line that cannot be taken: one sentence, exit code 2, the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.options import results_of

METHOD = """
from harness.method import Method


class Mine(Method):
    name = "mine"
    reference = "none"

    def compress(self, model, calibration):
        yield from ()
"""
COMPRESS = ("compress", "--model", "reference/mixtral", "--out", "nowhere/new", "--method")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (("rnu",), "unknown verb 'rnu'. Did you mean 'run'?"),
        (("--nope",), "moebench has no option '--nope'."),
        (("run",), "run needs SUITE."),
        (("run", "x", "--limt", "3"), "run has no option '--limt'. Did you mean '--limit'?"),
        (("run", "x", "--limit", "y"), "--limit should be a whole number."),
        (("run", "x", "--limit"), "--limit: option '--limit' requires an argument."),
        (("gate", "x"), "gate needs --baseline."),
        (("leaderboard", "a", "b"), "leaderboard: got unexpected extra argument"),
        (("leaderboard", "a", "--format", "mdd"), "--format: unknown format 'mdd'. Did you mean"),
        (("evaluate", "m", "--json=3"), "--json: option '--json' does not take a value."),
        ((*COMPRESS, "eep", "--set", "keep=true"), "--set: method 'eep': option 'keep' should be"),
        ((*COMPRESS, "eep", "--set", f"keep={'9' * 5000}"), "--set: method 'eep': option 'keep'"),
        ((*COMPRESS, "eep", "--seed", str(2**32)), "--seed should be at most 4294967295."),
        ((*COMPRESS, "eep", "--set", "seed=-1"), "--set: method 'eep': option 'seed' should be at"),
        ((*COMPRESS, "mine.py"), "--method: method file 'mine.py': say which class, as mine.py:CL"),
        ((*COMPRESS, "mine.py:Min"), "--method: method file 'mine.py' has no class 'Min'. Did you"),
        (("evaluate", "acme/nothing-of-this-name"), "acme/nothing-of-this-name: no folder here"),
    ],
)
def test_a_misused_verb_is_one_sentence(
    line: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(METHOD)
    result = CliRunner().invoke(app, line)
    said = [text for text in result.output.splitlines() if not text.endswith(" ...")]
    assert len(said) == 1
    assert said[0].startswith(f"moebench: {sentence}")
    assert result.exit_code == 2


def test_a_suite_whose_name_has_dots_has_a_folder_of_its_name() -> None:
    results = Path("results")
    assert results_of("v1.5", results) == results_of("x/v1.5.toml", results) == results / "v1.5"
