"""The server that starts workers: killed, interrupted, and never longer there than its run."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from harness.run import server
from harness.run.job import Job
from harness.run.process import run_cell
from tests.cells import MakeCell

FAKES = """
import os, signal
from harness.run.job import Outcome

def well(job, say):
    say("thinking")
    return Outcome(job.cell.record("ok", 0.5))

def with_its_server(job, say):
    say("falling")
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""
SLOW = """
import os, time
from pathlib import Path
begun = Path(os.environ["MOEBENCH_TEST_BEGUN"])
with begun.open("a") as file:
    file.write(f"{os.getpid()}\\n")
if len(begun.read_text().split()) <= int(os.environ["MOEBENCH_TEST_SLOW"]):
    time.sleep(60)
"""
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from harness.run import server
server.PRELOAD = ("moebench_slow_import",)
server.start_server()
try:
    print("started", flush=True)
    server.start_worker()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Modules for the server and its workers; the server imports nothing heavy."""
    place = tmp_path / "modules"
    place.mkdir()
    (place / "moebench_server_fakes.py").write_text(FAKES)
    (place / "moebench_slow_import.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("MOEBENCH_TEST_BEGUN", str(tmp_path / "begun"))
    monkeypatch.setattr(server, "_server", None)
    monkeypatch.setattr(server, "PRELOAD", ())
    return place


@pytest.fixture
def fakes(folder: Path) -> Iterator[ModuleType]:
    yield importlib.import_module("moebench_server_fakes")
    del sys.modules["moebench_server_fakes"]


@pytest.fixture
def job(make_cell: MakeCell, tmp_path: Path) -> Job:
    return Job(make_cell(), None, tmp_path / "work", tmp_path / "cache")


def begun(tmp_path: Path, number: int) -> int:
    """The process of the server that was the n-th to begin its imports."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        told = tmp_path / "begun"
        ids = told.read_text().split("\n")[:-1] if told.exists() else []
        if len(ids) >= number:
            return int(ids[number - 1])
        time.sleep(0.01)
    raise AssertionError("no server began")


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def killing(tmp_path: Path, times: int) -> Callable[[], None]:
    def kill() -> None:
        for number in range(1, times + 1):
            os.kill(begun(tmp_path, number), signal.SIGKILL)

    return kill


@pytest.mark.parametrize("times", [1, 2])
def test_a_server_killed_while_it_imports(
    times: int, job: Job, fakes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started again; a cell for which that did not help is a failed record."""
    monkeypatch.setattr(server, "PRELOAD", ("moebench_slow_import",))
    monkeypatch.setenv("MOEBENCH_TEST_SLOW", str(times))
    killer = threading.Thread(target=killing(tmp_path, times))
    killer.start()
    record = run_cell(job, execute=fakes.well).record
    killer.join()
    if times == 1:
        assert record.status == "ok"
    else:
        assert (record.status, record.reason) == (
            "failed",
            "The server that starts workers was killed by SIGKILL. "
            "The system probably ran out of memory.",
        )
        assert run_cell(job, execute=fakes.well).record.status == "ok"


def test_a_worker_goes_on_without_its_server(job: Job, fakes: ModuleType) -> None:
    def kill(phase: str) -> None:
        assert server._server is not None
        server._server._process.kill()

    assert run_cell(job, kill, execute=fakes.well).record.status == "ok"
    assert run_cell(job, execute=fakes.well).record.status == "ok"


def test_a_worker_lost_with_its_server_is_a_failed_record(job: Job, fakes: ModuleType) -> None:
    record = run_cell(job, execute=fakes.with_its_server).record
    assert (record.status, record.reason) == (
        "failed",
        "The worker was lost while falling, and so was the server that started it.",
    )
    assert run_cell(job, execute=fakes.well).record.status == "ok"


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_server_that_imports_ends_with_its_run(
    sent: signal.Signals, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C reaches it too, since it reaches the whole group, and it says nothing."""
    monkeypatch.setenv("MOEBENCH_TEST_SLOW", "1")
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pid = begun(tmp_path, 1)
    if sent == signal.SIGKILL:
        run.kill()
    else:
        os.killpg(run.pid, sent)
    out, err = run.communicate(timeout=20)
    assert gone(pid)
    assert err == ""
    assert out == ("started\n" if sent == signal.SIGKILL else "started\ninterrupted\n")
