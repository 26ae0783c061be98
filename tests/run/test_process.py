"""One process per cell: what it answers, how it dies, and that it dies with its run."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from harness import reference
from harness.errors import UserError
from harness.plan.cells import cells
from harness.plan.suite import Suite
from harness.run.job import Job
from harness.run.process import run_cell
from harness.run.server import PRELOAD
from tests.cells import MakeCell

SUITE = """
models = ["{model}"]
[protocol]
dtype = "float32"
tasks = ["boolq"]
average = ["boolq"]
perplexity = ["wikitext2"]
limit = 4
sequence_length = 16
new_tokens = 2
repetitions = 5
[calibration]
ref = "reference"
sequences = 2
length = 16
[[recipes]]
name = "wanda"
steps = [{{ method = "wanda", pattern = "2:4" }}]
"""
FAKES = """
import os, signal, sys, time
from harness import reference
from harness.errors import UserError
from harness.plan.cells import cells
from harness.plan.suite import Suite
from harness.run.job import Outcome

def well(job, say):
    say("thinking")
    print("printed")
    return Outcome(job.cell.record("ok", 0.5, warnings=[str(os.getpid())]))

def killed(job, say):
    say("eating memory")
    os.write(2, b"last words\\n")
    os.kill(os.getpid(), signal.SIGKILL)

def gone(job, say):
    os._exit(3)

def full(job, say):
    raise UserError("no space left.", argument="results")

def slow(job, say):
    say("sleeping")
    time.sleep(60)

def deaf(job, say):
    os.kill(os.getpid(), signal.SIGINT)
    return Outcome(job.cell.record("ok", 0.5))
"""


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """A module that the worker can import too."""
    folder = tmp_path_factory.mktemp("fakes")
    (folder / "moebench_fake_workers.py").write_text(FAKES)
    sys.path.insert(0, str(folder))
    return importlib.import_module("moebench_fake_workers")


@pytest.fixture
def job(make_cell: MakeCell, tmp_path: Path) -> Job:
    return Job(make_cell(), None, tmp_path / "work", tmp_path / "cache")


PRELOADED = """
import importlib, pickle, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
before = set(sys.modules)
from harness.run.worker import execute
assert set(sys.modules) == before, set(sys.modules) - before
outcome = execute(pickle.load(open(sys.argv[1], "rb")), lambda phase: None)
assert outcome.record.status == "ok", outcome.record.reason
packages = {name.partition(".")[0] for name in before} | {"sentencepiece"}  # where it can be had
print("LATER", *sorted({name.partition(".")[0] for name in sys.modules} - packages))
"""


def test_the_fork_server_imports_what_every_cell_needs(checkpoint: Path, tmp_path: Path) -> None:
    """It swallows an ImportError, and every cell would then pay for the import.

    Of packages that are there already, a cell may need more: its model's family, say.
    """
    suite = Suite.parse(SUITE.format(model=checkpoint), name="tiny", source="tiny.toml")
    cell = cells(suite, data_root=reference.DATA)[1]
    job = Job(cell, reference.DATA, tmp_path / "work", tmp_path / "cache")
    pickled = tmp_path / "job.pickle"
    pickled.write_bytes(pickle.dumps(job))
    done = subprocess.run(
        [sys.executable, "-c", PRELOADED, str(pickled), *PRELOAD],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LATER methods"


def test_the_answer_comes_from_another_process(job: Job, fakes: ModuleType) -> None:
    phases: list[str] = []
    record = run_cell(job, phases.append, execute=fakes.well).record
    assert record.status == "ok"
    assert record.warnings != [str(os.getpid())]
    assert phases == ["thinking"]
    assert job.log.read_text() == "printed\n"


def test_a_killed_worker_is_a_failed_record(job: Job, fakes: ModuleType) -> None:
    record = run_cell(job, execute=fakes.killed).record
    assert record.status == "failed"
    assert record.reason is not None
    assert record.reason.startswith("The worker was killed by SIGKILL while eating memory. The sys")
    assert record.reason.endswith("last words")
    assert record.cell == job.cell.id


def test_a_worker_that_leaves_is_a_failed_record(job: Job, fakes: ModuleType) -> None:
    record = run_cell(job, execute=fakes.gone).record
    assert record.reason == "The worker ended with exit code 3 while starting."


def test_what_the_user_must_mend_stops_the_run(job: Job, fakes: ModuleType) -> None:
    with pytest.raises(UserError, match="no space left") as caught:
        run_cell(job, execute=fakes.full)
    assert caught.value.argument == "results"


def test_a_worker_leaves_ctrl_c_to_the_run(job: Job, fakes: ModuleType) -> None:
    assert run_cell(job, execute=fakes.deaf).record.status == "ok"


def test_ctrl_c_kills_the_worker(job: Job, fakes: ModuleType) -> None:
    def interrupt(phase: str) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_cell(job, interrupt, execute=fakes.slow)
    assert time.monotonic() - started < 30


def test_a_worker_dies_with_its_run(job: Job, fakes: ModuleType, tmp_path: Path) -> None:
    script = (
        "import pickle, sys; sys.path.insert(0, sys.argv[1])\n"
        "import moebench_fake_workers as fakes; from harness.run.process import run_cell\n"
        "run_cell(pickle.load(open(sys.argv[2], 'rb')), lambda p: print(p, flush=True),"
        " execute=fakes.slow)\n"
    )
    pickled = tmp_path / "job.pickle"
    pickled.write_bytes(pickle.dumps(job))
    folder = str(Path(str(fakes.__file__)).parent)
    mark = f"MOEBENCH_TEST_MARK={tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-c", script, folder, str(pickled)],
        stdout=subprocess.PIPE,
        env={**os.environ, "MOEBENCH_TEST_MARK": str(tmp_path)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"sleeping\n"
        assert len(marked(mark)) >= 3  # the run, the fork server, the worker
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not marked(mark)


def marked(mark: str) -> list[int]:
    """The ids of living processes that have this in their environment."""
    living_ids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            living = "(zombie)" not in (folder / "status").read_text()
        except OSError:
            continue
        if living and mark.encode() in environment:
            living_ids.append(int(folder.name))
    return living_ids
