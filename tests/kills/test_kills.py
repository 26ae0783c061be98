"""Kills at random moments: nothing is lost, nothing mixed, and nothing left after the next run."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cache import sealed, upkeep
from tests.kills import table
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


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Note what a kill met, for the table at the end."""
    return lambda told: record_property(table.NAME, told)


def test_one_kill_of_each_kind(
    bench: Bench, request: pytest.FixtureRequest, note: Callable[[str], None]
) -> None:
    """In one test, so that one process has the server and the undisturbed run for all of them."""
    for victim in VICTIMS:
        note(f"{victim:<9} {_kill(victim, 0, bench, request)}")


@pytest.mark.long
@pytest.mark.parametrize(
    ("victim", "number"),
    [(victim, number) for victim, count in MANY.items() for number in range(1, count + 1)],
)
def test_a_kill_loses_nothing_and_leaves_nothing(
    victim: str,
    number: int,
    bench: Bench,
    request: pytest.FixtureRequest,
    note: Callable[[str], None],
) -> None:
    note(f"{victim:<9} {_kill(victim, number, bench, request)}")


def _kill(victim: str, number: int, bench: Bench, request: pytest.FixtureRequest) -> str:
    """Kill something at its moment, see what came of it, and say what the kill met."""
    moment = random.Random(f"{SEED} {victim} {number}").random()
    place_ = bench.folder / f"{victim}-{number}"
    if victim == "compress":
        met = _kill_compress(bench, place_, moment, request.getfixturevalue("artifact"))
    elif victim == "cache":
        met = _kill_cache(bench, moment)
    else:
        expected: Known = request.getfixturevalue("undisturbed")
        met = _kill_in_run(victim, bench, place_, moment, expected)
    deadline = time.monotonic() + 20
    while running(bench.folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running(bench.folder) == []
    assert bench.leftovers() == []
    return met


def _kill_in_run(victim: str, bench: Bench, results: Path, moment: float, expected: Known) -> str:
    bench.results = results
    seconds = 0.6 * moment * bench.moments[victim]  # later ones meet nobody
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


def _kill_compress(bench: Bench, folder: Path, moment: float, expected: dict[str, bytes]) -> str:
    bench.out = folder / "small"
    was_killed = killed(bench.compress, moment * bench.moments["compress"])
    if bench.out.exists():
        assert bench.artifact() == expected
    else:
        _in_a_fork(bench.compress)
    assert bench.artifact() == expected
    upkeep_once()
    return "killed" if was_killed else "finished before"


def _kill_cache(bench: Bench, moment: float) -> str:
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
