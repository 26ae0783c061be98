"""A tiny suite and a recipe to be killed at any moment, and what must be true afterwards.

Runs happen in this process, with one server for all of them; a run that is to be killed is a fork
of it, with a server of its own. So nothing is imported twice but by servers.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness import reference
from harness.cache import sealed, upkeep
from harness.cli.compress import carry_out, from_options
from harness.plan.forms import CalibrationForm
from harness.plan.suite import Suite
from harness.records.protocol import Protocol
from harness.records.store import Store
from harness.run import server
from harness.run.progress import Progress
from harness.run.runner import Summary
from harness.run.runner import run as run_suite

SUITE = """
models = ["{model}"]
[protocol]
dtype = "float32"
tasks = ["boolq"]
average = ["boolq"]
perplexity = []
limit = 4
measure = []
[calibration]
ref = "reference"
sequences = 4
length = 32
[[recipes]]
name = "wanda"
steps = [{{ method = "wanda", pattern = "2:4" }}]
"""
MEASURED = {
    *("created", "seconds", "compression_seconds", "compression_cpu_seconds"),
    *("memory_running", "memory_compressing"),
}
"""Fields of a record that are other ones each time."""
MARK = "MOEBENCH_TEST_MARK"
Told = tuple[dict[str, Any], list[Any]]
Known = dict[str, Told]


class Bench:
    """A folder with everything that moebench writes to, and a model.

    Attributes:
        moments: Seconds within which each kind of victim does its work undisturbed.
    """

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.results, self.cache = folder / "results", folder / "cache"
        self.temporary, self.out = folder / "temporary", folder / "made" / "small"
        self.temporary.mkdir(parents=True)
        self.moments: dict[str, float] = {}

    def run(self, results: Path | None = None) -> Summary:
        suite = Suite.parse(SUITE.format(model=self.model), name="tiny", source="tiny.toml")
        shown = Progress(Console(file=io.StringIO()))
        return run_suite(suite, results or self.results, data_root=reference.DATA, progress=shown)

    def known(self, results: Path | None = None) -> Known:
        """Every record but for times and peaks of memory, and its items, by row."""
        store = Store((results or self.results) / "tiny")
        assert not store.damage()
        told = {}
        for record in store.records():
            values = record.model_dump(exclude=MEASURED)
            for timed in (*values["recipe"], *values["tasks"].values()):
                timed.pop("seconds")
            told[record.row] = (values, [i.model_dump() for i in store.items(record.cell)])
        return told

    def compress(self) -> dict[str, bytes]:
        """Compress, and return the files of the artifact."""
        form = CalibrationForm(ref="reference", sequences=4, length=32, batch_size=8)
        step = from_options("wanda", ["pattern='2:4'"], form)
        protocol = Protocol(dtype="float32")
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            carry_out(str(self.model), [step], 0, protocol, None, self.out, streaming=True)
        return self.artifact()

    def artifact(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.out.iterdir())}

    def write_cache(self) -> None:
        with upkeep.in_use():
            for number in range(100):
                name = f"{number:064x}"
                sealed.write(self.cache / "hashes" / name, "x" * 100_000)

    def leftovers(self) -> list[str]:
        """Everything hidden or temporary but the locks, and folders of work."""
        left = [path for path in self.folder.rglob("*") if path.name.startswith(".")]
        names = [str(path.relative_to(self.folder)) for path in left if path.name != ".lock"]
        return names + [path.name for path in self.temporary.iterdir()]


@contextlib.contextmanager
def place(folder: Path, model: Path) -> Iterator[Bench]:
    """A bench whose cache and temporary folder are its own, also for servers."""
    with pytest.MonkeyPatch.context() as patch:
        bench = Bench(folder, model)
        patch.setenv("MOEBENCH_CACHE", str(bench.cache))
        patch.setenv("TMPDIR", str(bench.temporary))
        patch.setenv(MARK, str(folder))
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(server, "_server", None)
        yield bench


def forked(work: Callable[[], object]) -> int:
    """Do something in a fork of this process; return its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        server._server = None
        work()
        code = 0
    finally:
        os._exit(code)


def killed(work: Callable[[], object], seconds: float) -> bool:
    """Do something in a fork, kill it after so many seconds; return False if it was done before."""
    pid = forked(work)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def running(folder: Path) -> list[int]:
    """Servers and workers of this bench that live, but for this process's own server."""
    own = {os.getpid(), server._server._process.pid} if server._server else {os.getpid()}
    ids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            living = ") Z " not in (process / "stat").read_text()
            if living and f"{MARK}={folder}".encode() in (process / "environ").read_bytes():
                ids.append(int(process.name))
    return sorted(set(ids) - own)


@contextlib.contextmanager
def shot(target: Callable[[], int | None], seconds: float) -> Iterator[list[int]]:
    """Meanwhile, kill the first process that `target` names after so many seconds; yields it."""
    hit: list[int] = []
    over = threading.Event()

    def shoot() -> None:
        over.wait(seconds)
        while not (over.is_set() or hit):
            pid = target()
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    hit.append(pid)
            over.wait(0.005)

    thread = threading.Thread(target=shoot)
    thread.start()
    try:
        yield hit
    finally:
        over.set()
        thread.join()


def server_id() -> int | None:
    """The process of this process's server."""
    return server._server._process.pid if server._server else None


def worker_id() -> int | None:
    """A process that this process's server has started."""
    pid = server_id()
    with contextlib.suppress(OSError, ValueError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None
    return None
