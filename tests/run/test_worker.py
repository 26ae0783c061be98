"""What becomes of a cell in which something goes wrong."""

from __future__ import annotations

import errno
import logging
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import Refused, UserError
from harness.model.edits import QuantizeWeights
from harness.model.quantized.scheme import Scheme
from harness.records.record import PerplexityResult
from harness.run import worker
from harness.run.job import Job, Outcome
from harness.run.stages import order as stages
from tests.cells import MakeCell

Execute = Callable[[Callable[[Any], None]], Outcome]


@pytest.fixture
def execute(make_cell: MakeCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Execute:
    """Execute a cell whose work is the given function."""

    def run(work: Callable[[Any], None]) -> Outcome:
        monkeypatch.setattr(stages.Stages, "run", work)
        job = Job(make_cell(), None, tmp_path / "work", tmp_path / "cache")
        return worker.execute(job, lambda phase: None)

    return run


def raising(error: BaseException) -> Callable[[Any], None]:
    def work(self: Any) -> None:
        self.results["compression_seconds"] = 1.5
        raise error

    return work


def test_a_refusal_is_its_sentence(execute: Execute) -> None:
    record = execute(raising(Refused("keep = 1: too few."))).record
    assert (record.status, record.reason) == ("refused", "keep = 1: too few.")
    assert record.recipe[0].method == "eep"


def test_what_a_user_can_mend_fails_without_traceback(execute: Execute) -> None:
    record = execute(raising(UserError("no such data."))).record
    assert (record.status, record.reason) == ("failed", "no such data.")


def test_a_bug_fails_with_its_traceback_and_what_was_known(execute: Execute) -> None:
    record = execute(raising(ValueError("oh"))).record
    assert record.status == "failed"
    assert record.reason is not None
    assert record.reason.startswith("Traceback")
    assert record.reason.endswith("ValueError: oh\n")
    assert record.compression_seconds == 1.5
    assert record.size is None


def broken_perplexity(self: Any) -> None:
    PerplexityResult(text="t", value=0.5, tokens=1, windows=1, length=1, data="d", seconds=1.0)


def broken_seconds(self: Any) -> None:
    self.results["compression_seconds"] = math.nan


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (broken_perplexity, "PerplexityResult: 'value' should be at least 1.0, not 0.5."),
        (broken_seconds, "Record: 'compression_seconds' should be a finite number, not NaN."),
    ],
)
def test_what_no_record_may_hold_fails_in_a_sentence(
    execute: Execute, work: Callable[[Any], None], said: str
) -> None:
    record = execute(work).record
    assert record.status == "failed"
    assert record.reason is not None
    assert record.reason.splitlines()[-1] == f"A number cannot be recorded. {said}"
    assert record.compression_seconds is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_not_the_cell_s_fault(execute: Execute, error: Exception) -> None:
    with pytest.raises(UserError, match="no space left"):
        execute(raising(error))

    def wrapped(self: Any) -> None:
        raise UserError("the artifact cannot be written.") from error

    with pytest.raises(UserError, match="no space left"):
        execute(wrapped)


def test_an_interruption_is_no_result(execute: Execute) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(raising(KeyboardInterrupt()))


def test_warnings_are_kept_once(execute: Execute) -> None:
    def work(self: Any) -> None:
        self.warnings.append("mine")
        for _ in range(2):
            warnings.warn("a library's", stacklevel=1)
            logging.getLogger("harness.measure").warning("the harness's %d", 1)

    record = execute(work).record
    assert record.status == "ok"
    assert sorted(record.warnings) == ["a library's", "mine", "the harness's 1"]


def test_simulated_quantization_gets_no_size_memory_or_speed(
    make_cell: MakeCell, tmp_path: Path
) -> None:
    cell = stages.Stages(Job(make_cell(), None, tmp_path, tmp_path), lambda phase: None)
    before = set(cell.asked)
    edits = [
        QuantizeWeights(block=0, matrices=("experts.0.up",), scheme=Scheme(bits=bits))
        for bits in (4, 3, 2)
    ]
    cell.note_simulated(SimpleNamespace(edits=edits[:1]))  # type: ignore[arg-type]
    assert (cell.asked, cell.warnings) == (before, [])
    cell.note_simulated(SimpleNamespace(edits=edits))  # type: ignore[arg-type]
    assert cell.asked == before & {"flops"}
    assert "2 and 3 bits are simulated" in cell.warnings[0]
