"""The shape of suites: what is read, and how faults are said."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.plan.find import find, installed
from harness.plan.suite import BASELINE, Suite

GOOD = """\
title = "A title"
models = ["reference/mixtral"]
seeds = [0, 1]

[protocol]
dtype = "float32"
tasks = ["boolq"]
average = ["boolq"]

[calibration]
ref = "reference"
sequences = 64
batch_size = 4

[[recipes]]
name = "eep 4 of 8"
steps = [{ method = "eep", keep = 4 }]

[[recipes]]
name = "eep 6 + wanda 2:4"
seeds = [5]
steps = [
  { method = "eep", keep = 6 },
  { method = "wanda", pattern = "2:4", calibration = { sequences = 8 } },
]
"""


def parse(text: str) -> Suite:
    return Suite.parse(text, name="x", source="suites/x.toml")


def fault(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(text)
    return str(caught.value)


def test_a_suite_is_read_whole() -> None:
    suite = parse(GOOD)
    assert [recipe.name for recipe in suite.recipes] == [
        BASELINE,
        "eep 4 of 8",
        "eep 6 + wanda 2:4",
    ]
    assert [recipe.seeds for recipe in suite.recipes] == [(0,), (0, 1), (5,)]
    first, second = suite.recipes[2].steps
    assert (first.method, dict(first.options)) == ("eep", {"keep": 6})
    assert (second.method, dict(second.options)) == ("wanda", {"pattern": "2:4"})
    assert suite.protocol.dtype == "float32"


def test_a_step_has_the_suite_s_calibration_but_for_what_it_changes() -> None:
    first, second = parse(GOOD).recipes[2].steps
    assert (first.calibration.sequences, first.calibration.batch_size) == (64, 4)
    assert (second.calibration.sequences, second.calibration.batch_size) == (8, 4)


def test_a_calibration_may_be_named_alone() -> None:
    text = GOOD.replace("calibration = { sequences = 8 }", 'calibration = "eep"')
    assert parse(text).recipes[2].steps[1].calibration.ref == "eep"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds = [0, 1]", "seed = [0, 1]", "x.toml:3: unknown key 'seed'. Did you mean 'seeds'?"),
        ("dtype =", "dtyp =", "x.toml:6: unknown key 'dtyp'. Did you mean 'dtype'?"),
        ('"float32"', '"fp32"', "x.toml:6: 'dtype' should be 'float32'"),
        ("sequences = 64", "sequences = -1", "x.toml:12: 'sequences' should be at least 0, not -1"),
        ("sequences = 64", 'sequences = "64"', "x.toml:12: 'sequences' should be a whole number, not"),
        ("batch_size = 4", "batchsize = 4", "x.toml:13: unknown key 'batchsize'."),
        ("sequences = 8 }", "sequence = 8 }", "x.toml:24: unknown key 'sequence'."),
        ("sequences = 8 }", "sequences = true }", "x.toml:24: 'sequences' should be a whole n"),
        ('name = "eep 4 of 8"\n', "", "x.toml:15: 'name' is missing."),
        ('"eep 6 + wanda 2:4"', '"eep 4 of 8"', "x.toml:20: recipe 'eep 4 of 8' is already on l"),
        ('"eep 4 of 8"', '"baseline"', "x.toml:16: every suite has a row 'baseline' already."),
        ('method = "wanda", ', "", "x.toml:24: a step needs 'method'"),
        ("seeds = [5]", "seeds = []", "x.toml:21: 'seeds' should"),
        ('["reference/mixtral"]', '["a", "a"]', "x.toml:2: model 'a' is already on line 2."),
        ('models = ["reference/mixtral"]', "", "x.toml:1: 'models' is missing."),
        ('title = "A title"', "title = A", "x.toml: not valid TOML: "),
        ('steps = [{ method = "eep", keep = 4 }]', "steps = []", "x.toml:17: 'steps' should"),
    ],
)
def test_faults_name_file_line_and_nearest(old: str, new: str, said: str) -> None:
    assert old in GOOD
    sentence = fault(GOOD.replace(old, new, 1))
    assert sentence.startswith(f"suites/{said}"), sentence
    assert "\n" not in sentence


def test_twins_point_at_the_second_and_name_the_first() -> None:
    sentence = fault(GOOD.replace("eep 6 + wanda 2:4", "eep 4 of 8"))
    assert sentence == "suites/x.toml:20: recipe 'eep 4 of 8' is already on line 16."


def test_unknown_keys_name_those_that_exist() -> None:
    assert "Known: name, steps, seeds, families, published." in fault(
        GOOD.replace("seeds = [5]", "sead = [5]")
    )


def test_the_suites_that_ship_have_the_right_shape() -> None:
    names = installed()
    assert {"quickstart", "reference"} <= set(names)
    for name in names:
        suite = Suite.load(name)
        assert suite.title
        assert suite.recipes[0].name == BASELINE


def test_suites_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert find(str(path)) == path
    assert find("quickstart").name == "quickstart.toml"
    assert Suite.load(path).name == "mine"


def test_a_name_that_is_no_suite_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown suite 'quikstart'. Did you mean 'quickstart'\?"):
        find("quikstart")
    with pytest.raises(UserError, match="no such suite file"):
        find("nowhere/quickstart.toml")


def test_lines_of_a_file_outside_the_working_folder(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("models = 3")
    with pytest.raises(UserError, match=r"bad\.toml:1: 'models' should be a list, not 3"):
        Suite.load(path)
