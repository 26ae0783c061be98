"""Cell ids: everything that determines a result changes them, and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.plan.cell import Cell
from harness.plan.cells import cells, resolve
from harness.plan.forms import CalibrationForm
from harness.plan.suite import Step, Suite
from harness.records.basis import Basis
from harness.records.protocol import Protocol
from tests.cells import MakeCell


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"keep": 5, "seed": 0}},
        {"options": {"keep": 4, "progressive": True, "seed": 0}},
        {"own": "t" * 64},
        {"model": "n" * 64},
        {"method": "random"},
        {"file": "f" * 64},
        {"seed": 1},
        {"protocol": Protocol(tasks=("boolq",), average=("boolq",), limit=10)},
        {"protocol": Protocol(tasks=("boolq",), average=("boolq",), shots=5)},
        {"calibration": CalibrationForm(sequences=9, length=64, seed=0)},
        {"calibration": CalibrationForm(sequences=8, length=64, seed=1)},
        {"calibration": CalibrationForm(sequences=8, length=64, seed=0, batch_size=1)},
        {"calibration": CalibrationForm(ref="c-moe", sequences=8, length=64, seed=0)},
    ],
)
def test_what_determines_the_result_changes_the_id(
    make_cell: MakeCell, change: dict[str, Any]
) -> None:
    assert make_cell(**change).id != make_cell().id


def test_the_order_of_options_does_not_matter(make_cell: MakeCell) -> None:
    there = make_cell(options={"keep": 4, "seed": 0})
    back = make_cell(options={"seed": 0, "keep": 4})
    assert there.id == back.id


def test_names_and_places_do_not_matter(make_cell: MakeCell) -> None:
    cell = make_cell()
    assert make_cell(row="another name").id == cell.id
    assert dataclasses.replace(cell, suite="another suite").id == cell.id
    here = CalibrationForm(ref="/home/me/text.txt", sequences=8, length=64, seed=0)
    there = CalibrationForm(ref="/data/text.txt", sequences=8, length=64, seed=0)
    assert make_cell(calibration=here).id == make_cell(calibration=there).id


def test_the_basis_is_no_part_of_the_id(make_cell: MakeCell) -> None:
    """So that a record of other code or data is known for one, and compared."""
    cell = make_cell()
    assert cell.on(Basis(code={"compress": {"harness.model.view": "d" * 16}})).id == cell.id


def test_an_id_is_sixteen_hexadecimal_digits(make_cell: MakeCell) -> None:
    assert len(make_cell().id) == 16
    assert set(make_cell().id) <= set("0123456789abcdef")


def step(options: dict[str, Any], calibration: CalibrationForm | None = None) -> list[Step]:
    form = calibration or CalibrationForm()
    return [Step("random", options, form)]


def test_steps_are_resolved_to_the_last_option() -> None:
    [resolved] = resolve(step({"keep": 4}), seed=3)
    assert resolved.options["keep"] == 4
    assert resolved.options["seed"] == 3
    assert "ratio" in resolved.options
    assert resolved.code == (("methods.experts.random", "Random"),)


def test_a_pinned_seed_stays() -> None:
    [resolved] = resolve(step({"keep": 4, "seed": 7}), seed=3)
    assert resolved.options["seed"] == 7


def test_the_draw_is_the_corpus_s_own_for_seed_zero() -> None:
    [own] = resolve(step({"keep": 4}, CalibrationForm(ref="eep")), seed=0)
    [other] = resolve(step({"keep": 4}, CalibrationForm(ref="eep")), seed=2)
    [pinned] = resolve(step({"keep": 4}, CalibrationForm(ref="eep", seed=5)), seed=2)
    assert own.calibration.seed == 42
    assert other.calibration.seed == 44
    assert pinned.calibration.seed == 5
    assert (own.calibration.sequences, own.calibration.length) == (128, 2048)


def test_a_calibration_file_counts_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one")
    [one] = resolve(step({"keep": 4}, CalibrationForm(ref=str(path))), seed=0)
    path.write_text("two")
    [two] = resolve(step({"keep": 4}, CalibrationForm(ref=str(path))), seed=0)
    assert one.file != two.file


def test_a_method_s_file_is_its_code_wherever_it_lies(tmp_path: Path) -> None:
    ids = []
    for number, remark in ((1, ""), (2, ""), (1, "# a remark")):
        path = tmp_path / f"{number}{len(remark)}" / "mine.py"
        path.parent.mkdir()
        path.write_text(
            "from harness.method.contract import Method\n"
            "class Mine(Method):\n"
            "    name = 'mine'\n"
            "    reference = 'none'\n"
            "    def compress(self, model, calibration):\n"
            f"        yield from ()[:{number}]{remark}\n"
        )
        [resolved] = resolve([Step(f"{path}:Mine", {}, CalibrationForm())], seed=0)
        ids.append((resolved.own, Path(resolved.method).name))
    assert ids[0] == ids[2]
    assert ids[0][0] != ids[1][0]
    assert ids[0][1] == ids[1][1]


def test_a_cell_makes_its_record(make_cell: MakeCell) -> None:
    cell: Cell = make_cell(row="eep 4", seed=2)
    record = cell.record("refused", 1.5, reason="No.")
    assert (record.cell, record.row, record.seed) == (cell.id, "eep 4", 2)
    assert record.recipe[0].options == {"keep": 4, "seed": 2}
    assert record.protocol == cell.protocol.sha256
    assert record.created.endswith("+00:00")


def test_one_cell_under_two_names_is_refused(checkpoint: Path) -> None:
    twice = "".join(
        f'[[recipes]]\nname = "{name}"\nsteps = [{{ method = "random", keep = 2 }}]\n'
        for name in ("a", "b")
    )
    suite = Suite.parse(f'models = ["{checkpoint}"]\n{twice}', name="x", source="x.toml")
    with pytest.raises(
        UserError, match=r"x\.toml: '.*  b  seed 0' and '.*  a  seed 0' are the same"
    ):
        cells(suite)


def test_all_cells_of_a_suite_the_baseline_first(checkpoint: Path) -> None:
    text = f"""
    models = ["{checkpoint}"]
    seeds = [0, 1]
    [[recipes]]
    name = "half"
    steps = [{{ method = "random", keep = 2 }}]
    """
    planned = cells(Suite.parse(text, name="x", source="x.toml"))
    assert [(cell.row, cell.seed, len(cell.steps)) for cell in planned] == [
        ("baseline", 0, 0),
        ("half", 0, 1),
        ("half", 1, 1),
    ]
    limited = cells(Suite.parse(text, name="x", source="x.toml"), limit=5)
    assert {cell.id for cell in limited}.isdisjoint(cell.id for cell in planned)
    assert (limited[0].protocol.limit, limited[0].protocol.windows) == (5, 5)


def test_a_model_that_is_not_there_is_said_with_its_line() -> None:
    suite = Suite.parse('title = "t"\nmodels = ["reference/mixtrel"]', name="x", source="x.toml")
    with pytest.raises(UserError, match=r"x\.toml:2: .*Did you mean 'reference/mixtral'\?"):
        cells(suite)
