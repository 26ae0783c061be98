"""Today's basis: the data sets that each stage of a cell reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.code.library import Library
from harness.code.modules import file_of
from harness.errors import UserError
from harness.plan import today
from harness.plan.forms import CalibrationForm
from harness.plan.today import Today
from harness.records.protocol import Protocol
from tests.cells import MakeCell


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("allenai/c4", "aps/super_glue", "Salesforce/wikitext", "yahma/alpaca-cleaned"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "test.jsonl").write_text(f'{{"text": "{name}"}}')
    return tmp_path


def sets(cell: object, root: Path | None) -> Mapping[str, set[str]]:
    data = Today(root).basis(cell).data  # type: ignore[arg-type]
    return {stage: set(names) for stage, names in data.items()}


def test_each_stage_names_the_data_sets_that_it_reads(make_cell: MakeCell, root: Path) -> None:
    protocol = Protocol(
        tasks=("boolq",), average=("boolq",), perplexity=("wikitext2",), measure=("instructions",)
    )
    form = CalibrationForm(ref="wanda", sequences=8, length=64, seed=0)
    assert sets(make_cell(protocol=protocol, calibration=form), root) == {
        "compress": {"allenai/c4"},
        "evaluate": {"aps/super_glue", "Salesforce/wikitext"},
        "measure": {"yahma/alpaca-cleaned"},
    }


def test_a_calibration_file_of_the_user_s_is_data(make_cell: MakeCell, tmp_path: Path) -> None:
    """So that one which changes while a cell runs is noticed."""
    text = tmp_path / "mine.txt"
    text.write_text("before")
    cell = make_cell(calibration=CalibrationForm(ref=f"{text}#body", sequences=8, seed=0))
    before = Today().basis(cell)
    text.write_text("after!")
    assert before.changes(Today().basis(cell))["compress"].data == ("mine.txt",)
    shipped = make_cell(calibration=CalibrationForm(ref="reference", sequences=8, seed=0))
    assert set(Today().basis(shipped).data["compress"]) == {"calibration.jsonl"}


def test_a_step_without_tokens_reads_no_data(make_cell: MakeCell, root: Path) -> None:
    form = CalibrationForm(ref="wanda", sequences=0, length=64, seed=0)
    assert sets(make_cell(calibration=form), root)["compress"] == set()


def test_a_task_that_only_the_whole_index_knows_reads_everything(
    make_cell: MakeCell, root: Path
) -> None:
    protocol = Protocol(tasks=("lambada_openai",), average=(), perplexity=())
    assert sets(make_cell(protocol=protocol), root)["evaluate"] == {"everything"}


def test_a_change_of_one_data_set_is_a_change_of_the_stages_that_read_it(
    make_cell: MakeCell, root: Path
) -> None:
    protocol = Protocol(tasks=("boolq",), average=("boolq",), perplexity=("wikitext2",))
    cell = make_cell(protocol=protocol, calibration=CalibrationForm(ref="wanda", seed=0))
    before = Today(root).basis(cell)
    (root / "Salesforce" / "wikitext" / "test.jsonl").write_text('{"text": "another"}')
    changes = before.changes(Today(root).basis(cell))
    assert list(changes) == ["evaluate"]
    assert changes["evaluate"].data == ("Salesforce/wikitext",)
    assert changes["evaluate"].code == ()


def test_every_entry_of_a_stage_is_there() -> None:
    library = Library()
    entries = [
        *today.OPENING,
        *today.DRAWING,
        today.AUDIT,
        today.TASKS,
        today.PERPLEXITY,
        *today.FLOPS,
        *(entry for entries in today.MEASURES.values() for entry in entries),
        *today.BESIDE,
        today.STORED,
        today.DRAWN,
        *today.ORDER,
        ("harness.run.stages.compressing", "compress_to"),
        ("harness.run.stages.compressing", "run_dry"),
    ]
    for module, name in entries:
        assert file_of(module).is_file()
        assert library.has(module, name), (module, name)


def test_every_quantity_of_the_protocol_has_entries() -> None:
    quantities = set(Protocol.model_fields["measure"].annotation.__args__[0].__args__)  # type: ignore[union-attr]
    assert quantities == {*today.MEASURES, "flops"}


def test_a_method_without_a_source_is_one_sentence(make_cell: MakeCell) -> None:
    cell = make_cell(code=(("itertools", "chain"),))
    with pytest.raises(UserError, match=r"eep 4 .*: itertools has no source, so that nobody can"):
        Today().basis(cell)
