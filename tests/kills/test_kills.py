"""Kills at random moments: nothing is lost, nothing mixed, and nothing left after the next run."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cache import sealed, upkeep
from tests.kills.bench import (
    Bench,
    Known,
    Told,
    forked,
    killed,
    place,
    running,
    server_id,
    shot,
    worker_id,
)

SEED = 20261128
VICTIMS = ("run", "worker", "server", "compress", "cache")
MANY = {"run": 18, "worker": 14, "server": 6, "compress": 12, "cache": 5}
"""Kills beside the one of each kind that are part of every check: 60 together."""
_table: Counter[tuple[str, str]] = Counter()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Bench]:
    with place(tmp_path_factory.mktemp("kills"), checkpoint) as bench:
        yield bench


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> Known:
    """The records and items of a run that nothing happens to; times of everything are taken."""
    for name in ("run", "worker"):  # the first waits for the server's imports
        start = time.monotonic()
        summary = bench.run(bench.folder / name)
        assert [record.status for record in summary.ran] == ["ok", "ok"]
        bench.moments[name] = time.monotonic() - start
    bench.moments["server"] = bench.moments["worker"]
    one, other = (bench.known(bench.folder / name) for name in ("run", "worker"))
    assert {row: _apart(one[row], other[row]) for row in one} == {row: [] for row in other}
    return one


@pytest.fixture(scope="module")
def artifact(bench: Bench) -> dict[str, bytes]:
    start = time.monotonic()
    _in_a_fork(bench.compress)
    bench.moments["compress"] = time.monotonic() - start
    return bench.artifact()


@pytest.fixture(scope="module", autouse=True)
def _shown(request: pytest.FixtureRequest) -> Iterator[None]:
    """The table of what the kills met, printed at the end."""
    yield
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and _table:
        reporter.write_line("")
        for (victim, met), count in sorted(_table.items()):
            reporter.write_line(f"kills: {victim:<9} {met:<18} {count}")


def cases() -> list[object]:
    short = [pytest.param(victim, 0, id=f"{victim}-0") for victim in VICTIMS]
    return short + [
        pytest.param(victim, number, id=f"{victim}-{number}", marks=pytest.mark.long)
        for victim, count in MANY.items()
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize(("victim", "number"), cases())
def test_a_kill_loses_nothing_and_leaves_nothing(
    victim: str, number: int, bench: Bench, request: pytest.FixtureRequest
) -> None:
    moment = random.Random(f"{SEED} {victim} {number}").random()
    kills: dict[str, Callable[[Bench, float, pytest.FixtureRequest], str]] = {
        "compress": _kill_compress,
        "cache": _kill_cache,
    }
    met = kills.get(victim, _kill_in_run)(bench, moment, request)
    _table[victim, met] += 1
    deadline = time.monotonic() + 20
    while running(bench.folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running(bench.folder) == []
    assert bench.leftovers() == []


def _kill_in_run(bench: Bench, moment: float, request: pytest.FixtureRequest) -> str:
    expected: Known = request.getfixturevalue("undisturbed")
    victim = str(request.node.callspec.params["victim"])
    bench.results = bench.folder / request.node.name
    seconds = 1.1 * moment * bench.moments[victim]
    if victim == "run":
        met = "killed" if killed(bench.run, seconds) else "finished before"
    else:
        with shot(worker_id if victim == "worker" else server_id, seconds) as hit:
            summary = bench.run()
        failed = [record.reason or "" for record in summary.failed]
        assert len(failed) <= len(hit)
        assert all("was killed by SIGKILL" in reason or "was lost" in reason for reason in failed)
        met = ("a failed record" if failed else "went on") if hit else "nobody there"
    before = {row: told for row, told in bench.known().items() if told[0]["status"] == "ok"}
    assert all(told == expected[row] for row, told in before.items())
    summary = bench.run()
    assert len(summary.ran) == len(expected) - len(before)  # what was finished is not run again
    assert bench.known() == expected
    return met


def _apart(one: Told, other: Told) -> list[str]:
    """The fields in which two records differ, or their items."""
    fields = [name for name, value in one[0].items() if other[0][name] != value]
    return fields + ["items"] * (one[1] != other[1])


def _kill_compress(bench: Bench, moment: float, request: pytest.FixtureRequest) -> str:
    expected: dict[str, bytes] = request.getfixturevalue("artifact")
    bench.out = bench.folder / request.node.name / "small"
    was_killed = killed(bench.compress, 1.1 * moment * bench.moments["compress"])
    if bench.out.exists():
        assert bench.artifact() == expected
    else:
        _in_a_fork(bench.compress)
    assert bench.artifact() == expected
    upkeep_once()
    return "killed" if was_killed else "finished before"


def _kill_cache(bench: Bench, moment: float, _: pytest.FixtureRequest) -> str:
    was_killed = killed(bench.write_cache, 0.05 + 0.3 * moment)
    upkeep_once()
    for path in (bench.cache / "hashes").iterdir():
        assert sealed.read_bytes(path) is not None
    return "killed" if was_killed else "finished before"


def upkeep_once() -> None:
    """As the next command begins."""
    with upkeep.in_use():
        pass


def _in_a_fork(work: Callable[[], object]) -> None:
    _, status = os.waitpid(forked(work), 0)
    assert status == 0
