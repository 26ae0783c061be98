"""The command line: fast, quiet, and readable when it refuses."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.options import as_list
from harness.plan.cell import Cell, CellStep
from harness.plan.forms import CalibrationForm
from harness.records.basis import Basis
from harness.records.protocol import Protocol
from harness.records.record import ModelInfo
from harness.records.store import Plan, Store

from .conftest import Run

VERBS = (
    *("run", "leaderboard", "verdict", "gate", "plot"),
    *("compress", "export", "evaluate", "list", "show", "cache", "doctor"),
)


def test_help_names_every_verb(moebench: Run) -> None:
    done = moebench("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert f" {verb} " in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example(moebench: Run, verb: str) -> None:
    done = moebench(verb, "--help")
    assert done.returncode == 0
    assert f"Example: moebench {verb}" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list", "suites"], ["list", "methods"], ["list", "texts"], ["run", "nothing"]],
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    script = (
        "import sys; from harness.cli import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pandas', 'lm_eval', 'datasets', 'matplotlib'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "quikstart"], "unknown suite 'quikstart'. Did you mean 'quickstart'?"),
        (["run", "missing.toml"], "missing.toml: no such suite file."),
        (["leaderboard", "quickstart"], "no results here. Run 'moebench run' first."),
        (["plot", "quickstart"], "no results here."),
        (["list", "method"], "unknown list 'method'. Did you mean 'methods'?"),
        (["show", "abc"], "no record 'abc' in results."),
        (["run", "quickstart", "--only", "gpqt", "--dry-run"], "--only: 'gpqt' matches no cell."),
        (
            ["run", "moe-i2-table1", "--models", "reference/mixtral", "--models", "acme/tiny"],
            "--models: reference models and others need different protocols; run them apart.",
        ),
        (["compress", "--model", "m", "--out", "o"], "give either --method or --recipe."),
        (
            ["compress", "--model", "m", "--out", "o", "--method", "eep", "--dtype", "float23"],
            "--dtype 'float23' is none of float32, bfloat16, float16. Did you mean 'float32'?",
        ),
        (
            ["compress", "--model", "m", "--out", "o", "--recipe", "r.toml", "--set", "keep=4"],
            "--set belongs to --method; write a recipe's options in its file.",
        ),
        (
            [
                *[
                    "compress",
                    "--model",
                    "m",
                    "--out",
                    "o",
                    "--method",
                    "eep",
                    "--set",
                    "keep=4",
                    "--set",
                    "keep=5",
                ]
            ],
            "--set names the option 'keep' twice; give it once.",
        ),
        (["evaluate", "m", "--limit", "0"], "moebench: --limit should be at least 1."),
        (["evaluate", "m", "--limit", "x"], "moebench: --limit should be a whole number."),
        (["gate", "s", "--baseline", "b", "--margin", "y"], "--margin should be a number."),
        (["export", "m", "--to", "gtpq", "--out", "o"], "--to: unknown format 'gtpq'. Did you"),
        (["show", sys.executable], "is no record; name a .json file, or the start of a cell id."),
    ],
)
def test_what_the_user_can_fix_is_one_sentence(
    moebench: Run, arguments: list[str], sentence: str
) -> None:
    done = moebench(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rn"], "run"),
        (["run"], "SUITE"),
        (["run", "quickstart", "--limit", "x"], "--limit"),
        (["run", "quickstart", "--limit", "0"], "--limit"),
        (["run", "quickstart", "--onli", "x"], "--only"),
    ],
)
def test_wrong_usage_exits_with_two(moebench: Run, arguments: list[str], sentence: str) -> None:
    done = moebench(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_faults_in_a_suite_come_with_their_line(moebench: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('models = ["reference/mixtral"]\nsead = [1]\n')
    done = moebench("run", "mine.toml")
    assert done.returncode == 2
    assert done.stderr.startswith("moebench: mine.toml:2: unknown key 'sead'. Did you mean 'seeds'")


def test_lists(moebench: Run) -> None:
    assert "quickstart" in moebench("list", "suites").stdout
    assert "arc_challenge" in moebench("list", "tasks").stdout
    assert "wikitext2" in moebench("list", "texts").stdout
    assert "reference/mixtral" in moebench("list", "models").stdout
    assert "c-moe" in moebench("list", "calibrations").stdout


def test_methods_are_listed_with_their_options(moebench: Run) -> None:
    lines = moebench("list", "methods").stdout.splitlines()
    [eep] = [line for line in lines if line.startswith("eep ")]
    assert "progressive" in eep


@pytest.mark.parametrize("targets", ["expert", "experts,expert", '["expert"]'])
def test_lists_may_be_written_with_commas(moebench: Run, targets: str) -> None:
    arguments = ("compress", "--model", "m", "--out", "o", "--method", "rtn", "--set", "bits=4")
    done = moebench(*arguments, "--set", f"targets={targets}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "option 'targets' should be 'experts', " in done.stderr
    assert 'not "expert".' in done.stderr


@pytest.mark.parametrize(
    ("annotation", "value", "read"),
    [
        (frozenset[str], "a,b", ["a", "b"]),
        (frozenset[str] | None, "a", ["a"]),
        (tuple[int, ...], 4, [4]),
        (tuple[int, ...], "4, 2", ["4", "2"]),
        (list[str], ["a"], ["a"]),
        (dict[str, str], {"a": "b"}, {"a": "b"}),
        (str, "a,b", "a,b"),
        (str | None, "a,b", "a,b"),
        (int, 4, 4),
    ],
)
def test_a_value_is_a_list_where_the_option_takes_one(
    annotation: object, value: object, read: object
) -> None:
    assert as_list(value, annotation) == read


def test_the_version(moebench: Run) -> None:
    assert moebench("--version").stdout.strip()


def test_a_reader_that_leaves_is_one_sentence_at_most(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("moebench")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{script} list tasks | head -n 0"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    said = "moebench: the output was closed before all of it was written.\n"
    assert done.stderr in ("", said)


SUITE = "models = ['acme/tiny']\n"


def results(folder: Path) -> Cell:
    """A results folder with one record."""
    protocol = Protocol(tasks=("boolq",), average=("boolq",), perplexity=())
    model = ModelInfo(ref="acme/tiny", family="mixtral", sha256="m" * 64, label="tiny")
    step = CellStep("eep", {"keep": 1}, (), "", CalibrationForm(seed=0))
    cell = Cell("mine", model, "eep 1", (step,), 0, protocol)
    store = Store(folder / "mine")
    store.begin(Plan(suite="mine", title="", protocol=protocol, cells=(cell.planned(),)), "")
    store.write(cell.record("refused", 0.1, reason="keep = 1: too few."))
    return cell


def test_a_leaderboard_goes_to_stdout_or_to_a_file(moebench: Run, tmp_path: Path) -> None:
    results(tmp_path / "results")
    done = moebench("leaderboard", "mine", "--format", "csv")
    assert done.returncode == 0
    assert "eep 1" in done.stdout
    assert done.stderr == ""
    filed = moebench("leaderboard", "mine", "--format", "csv", "--out", "table.csv")
    assert filed.stdout == ""
    assert (tmp_path / "table.csv").read_text() == done.stdout
    wrong = moebench("leaderboard", "mine", "--format", "cvs")
    assert wrong.returncode == 2
    assert "Did you mean 'csv'?" in wrong.stderr


def test_a_cell_of_two_folders_is_shown_from_the_first_with_its_basis(
    moebench: Run, tmp_path: Path
) -> None:
    cell = results(tmp_path / "results")
    store = Store(tmp_path / "results" / "other")
    modules = {"methods.experts.eep": "1" * 16, "harness.model.view": "2" * 16}
    basis = Basis(code={"compress": modules}, data={"compress": {"allenai/c4": "3" * 64}})
    store.write(cell.record("refused", 0.1, reason="no", basis=basis))
    shown = moebench("show", cell.id)
    assert f"{cell.id} of results/mine, results/other: the first." in shown.stderr
    by_file = moebench("show", f"results/other/records/{cell.id}.json").stdout
    assert "over 2 modules" in by_file
    assert "allenai/c4 3333333333333333" in by_file


def test_a_record_is_shown_by_file_and_by_the_start_of_its_id(
    moebench: Run, tmp_path: Path
) -> None:
    cell = results(tmp_path / "results")
    path = f"results/mine/records/{cell.id}.json"
    shown = moebench("show", cell.id[:5])
    assert shown.returncode == 0
    assert "keep = 1: too few." in shown.stdout
    assert moebench("show", path).stdout == shown.stdout
    assert moebench("show", path, "--json").stdout == (tmp_path / path).read_text()


def test_packed_records_are_shown_and_tabled_as_loose_ones(moebench: Run, tmp_path: Path) -> None:
    cell = results(tmp_path / "results")
    verbs = (("show", cell.id, "--json"), ("leaderboard", "mine", "--format", "csv"))
    loose = [moebench(*verb).stdout for verb in verbs]
    archived = moebench("archive", "mine")
    assert archived.returncode == 0
    assert archived.stderr == "Archived 1 records of results/mine.\n"
    assert not (tmp_path / "results/mine/records").exists()
    store = Store(tmp_path / "results/mine")
    lost = dataclasses.replace(cell, seed=1).planned()
    plan = store.plan()
    store.begin(plan.model_copy(update={"cells": (*plan.cells, lost)}), "")
    again = moebench("archive", "mine")
    assert "1 of 2 cells (eep 1) has no record yet.\n" in again.stderr
    store.begin(plan, "")
    assert [moebench(*verb).stdout for verb in verbs] == loose
    nowhere = moebench("archive", "theirs")
    assert nowhere.returncode == 2
    assert (
        nowhere.stderr == "moebench: results/theirs: no results here. Run 'moebench run' first.\n"
    )


def test_no_verb_dies_of_one_damaged_record(moebench: Run, tmp_path: Path) -> None:
    cell = results(tmp_path / "results")
    store = Store(tmp_path / "results" / "mine")
    other = dataclasses.replace(cell, seed=1)
    cells = (cell.planned(), other.planned())
    protocol = store.plan().protocol
    store.begin(Plan(suite="mine", title="", protocol=protocol, cells=cells), SUITE)
    store.write(other.record("refused", 0.1, reason="keep = 1: too few."))
    path = tmp_path / "results" / "mine" / "records" / f"{other.id}.json"
    path.write_text(path.read_text().replace('"seconds": 0.1', '"seconds": 0.2'))
    said = f"{path.relative_to(tmp_path)}: damaged (it is not what was written"
    board = moebench("leaderboard", "mine")
    assert (board.returncode, board.stderr) == (0, "")
    assert "eep 1" in board.stdout
    assert "1 of 2 cells (eep 1) has a damaged record, which does not count." in board.stdout
    assert said in " ".join(board.stdout.split())
    table = moebench("leaderboard", "mine", "--format", "csv")
    assert (table.returncode, len(table.stdout.splitlines())) == (0, 2)
    assert said in table.stderr
    plot = moebench("plot", "mine")
    assert (plot.returncode, said in plot.stderr, "suite.toml" in plot.stderr) == (0, True, False)
    store.suite_path.write_text(f"{SUITE}title = 'Another'\n")
    plot = moebench("plot", "mine")
    assert plot.returncode == 0
    assert "results/mine/suite.toml: damaged (it is not what was written" in plot.stderr
    assert moebench("show", cell.id).returncode == 0
    assert moebench("show", other.id).stderr.startswith(f"moebench: {said}")


def test_a_damaged_archive_is_named_by_show(moebench: Run, tmp_path: Path) -> None:
    cell = results(tmp_path / "results")
    assert moebench("archive", "mine").returncode == 0
    path = tmp_path / "results" / "mine" / "records.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-9])
    done = moebench("show", cell.id)
    assert done.returncode == 2
    assert "records.jsonl.gz: damaged (it cannot be unpacked to its end)" in done.stderr


def test_the_doctor_says_who_owns_the_packages(moebench: Run) -> None:
    done = moebench("doctor")
    assert done.returncode == 0
    for name in ("harness", "methods", "suites", "python", "device", "cache"):
        assert f"\n{name} " in f"\n{done.stdout}"


@pytest.mark.parametrize(
    ("cache", "said"),
    [
        ("new", "; it can be written\n"),
        ("file", "; it cannot be written (File exists): results are right, but nothing is kept"),
    ],
)
def test_the_doctor_says_whether_the_cache_can_be_written(
    cache: str, said: str, moebench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MOEBENCH_CACHE", str(tmp_path / cache))
    done = moebench("doctor")
    assert done.returncode == 0
    assert said in done.stdout


def test_python_m_is_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "list", "suites"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "quickstart" in done.stdout


def test_ctrl_c_exits_with_130(tmp_path: Path) -> None:
    script = (
        "import signal, sys; from harness.plan import suite; from harness.cli import main\n"
        # A parent in the background of a shell may have had the signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "suite.Suite.load = lambda name: signal.raise_signal(signal.SIGINT)\n"
        "sys.argv[1:] = ['run', 'quickstart']; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 130
    assert done.stderr.count("\n") == 1
    assert "interrupted" in done.stderr
