"""The stages of a cell that run again, and the results that are taken over for the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.measure.environment import environment
from harness.plan.cell import Cell
from harness.records.basis import Stage
from harness.records.record import Item, PerplexityResult, Size
from harness.run.job import Job, Outcome
from harness.run.stages.order import Stages
from tests.cells import MakeCell

EDITS = [{"edit": "DropBlock", "block": 1}]
SIZE = Size(
    parameters=2,
    expert_parameters=1,
    active_parameters=1,
    nonzero_parameters=2,
    resident_bytes=8,
    artifact_bytes=8,
)
TEXT = PerplexityResult(
    text="ptb", value=2.0, tokens=4, windows=1, length=4, data="d" * 64, seconds=0.1
)
ITEM = Item(task="boolq", item="i", prompt="p", metrics={"acc": 1.0})


@pytest.fixture
def cell(make_cell: MakeCell) -> Cell:
    return make_cell()


def stages(cell: Cell, folder: Path, due: set[Stage], **then: Any) -> Stages:
    """A cell that has just been compressed, and whose earlier record differs in `then`."""
    fields = {"edits": EDITS, "environment": environment(), "size": SIZE}
    record = cell.record("ok", 1.0, **{**fields, "perplexity": {"ptb": TEXT}, **then})
    job = Job(cell, None, folder, folder, earlier=Outcome(record, (ITEM,)), due=frozenset(due))
    here = Stages(job, lambda phase: None)
    here.results |= {"edits": EDITS, "environment": environment()}
    here.warnings.append("of compressing")
    return here


def test_a_stage_that_is_not_due_keeps_its_results(cell: Cell, tmp_path: Path) -> None:
    measured = stages(cell, tmp_path, {"measure"})
    assert measured.due() == {"measure"}
    assert measured.results["perplexity"] == {"ptb": TEXT}
    assert measured.items == [ITEM]
    assert "size" not in measured.results
    evaluated = stages(cell, tmp_path, {"evaluate"})
    assert evaluated.due() == {"evaluate"}
    assert evaluated.results["size"] == SIZE
    assert evaluated.items == []
    assert "perplexity" not in evaluated.results


@pytest.mark.parametrize(
    "then",
    [
        {"edits": [{"edit": "DropBlock", "block": 2}]},
        {"warnings": ["of evaluating"]},
        {"environment": None},
        {"environment": environment().model_copy(update={"processor": "another"})},
        {"environment": environment().model_copy(update={"versions": {"torch": "1.0"}})},
    ],
)
def test_all_stages_are_due_where_compressing_may_have_come_out_otherwise(
    cell: Cell, tmp_path: Path, then: dict[str, Any]
) -> None:
    again = stages(cell, tmp_path, {"measure"}, **then)
    assert again.due() == {"compress", "evaluate", "measure"}
    assert "perplexity" not in again.results


def test_warnings_of_compressing_do_not_count(cell: Cell, tmp_path: Path) -> None:
    assert stages(cell, tmp_path, {"measure"}, warnings=["of compressing"]).due() == {"measure"}
