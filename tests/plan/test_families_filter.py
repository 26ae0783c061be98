"""Recipes for some families, rows of published tables, and suites on other models."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.plan.cells import cells
from harness.plan.check import check
from harness.plan.forms import CalibrationForm
from harness.plan.suite import Suite
from harness.reference import MODELS

GOOD = """\
models = ["acme/moe"]
[protocol]
tasks = ["boolq"]
average = ["boolq"]
perplexity = ["wikitext2"]
[calibration]
ref = "c-moe"
seed = 7
[published]
table = "moe-i2.table2"
[reference]
calibration = { ref = "reference", sequences = 4, length = 32 }
calibrations = { wanda = { ref = "reference", sequences = 2, length = 16 } }
options = { random = { ratio = 0.5 } }
protocol = { tasks = ["boolq", "rte"], limit = 3 }
[[recipes]]
name = "mixtral only"
families = ["mixtral"]
published = { method = "EEP", Params = 50 }
steps = [{ method = "eep", ratio = 0.5 }]
[[recipes]]
name = "the others"
families = ["qwen2_moe", "deepseek_v2"]
published = "Wanda"
steps = [{ method = "random", ratio = 0.25, calibration = "wanda" }]
[[recipes]]
name = "all"
steps = [{ method = "expert-drop", ratio = 0.25 }]
"""


def suite(text: str = GOOD) -> Suite:
    return Suite.parse(text, name="x", source="x.toml")


def test_a_recipe_goes_to_its_families() -> None:
    planned = cells(suite().on(["reference"]))
    rows = {ref: [cell.row for cell in planned if cell.model.ref == ref] for ref in MODELS}
    assert rows == {
        "reference/mixtral": ["baseline", "mixtral only", "all"],
        "reference/qwen2-moe": ["baseline", "the others", "all"],
        "reference/deepseek-v2": ["baseline", "the others", "all"],
    }


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"qwen2_moe", ', '"qwen_moe", ', "x.toml:23: unknown model family 'qwen_moe'. Did you"),
        ('["mixtral"]', "[]", "x.toml:18: 'families' should"),
        ("moe-i2.table2", "moe-i2.table22", "x.toml:10: unknown published table 'moe-i2.table22'."),
        ('"Wanda"', '"Wandy"', "x.toml:24: unknown row of moe-i2.table2 'Wandy'. Did you mean 'Wa"),
        ("Params = 50", "Param = 50", "x.toml:19: unknown column of moe-i2.table2 'Param'. Did yo"),
        ("Params = 50", "Params = 51", "x.toml:19: no row of moe-i2.table2 is {'method': 'EEP', "),
        ('[published]\ntable = "moe-i2.table2"\n', "", "x.toml:17: 'published' names a row, and"),
        (
            'table = "moe-i2.table2"',
            'table = "moe-i2.table9"\nbaseline = ["P", "b"]',
            "x.toml:11: unknown row of moe-i2.table9 'b'.",
        ),
    ],
)
def test_faults(old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        check(suite(GOOD.replace(old, new, 1)))
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_good_suite_passes() -> None:
    check(suite())
    check(suite().on(["reference"]))


def test_reference_models_stand_in_with_what_they_need() -> None:
    own = suite()
    moved = own.on(["reference"])
    assert moved.name == "x@reference"
    assert moved.models == tuple(MODELS)
    assert (own.protocol.dtype, moved.protocol.dtype) == ("bfloat16", "float32")
    assert (moved.protocol.sequence_length, moved.protocol.new_tokens) == (224, 32)
    assert (moved.protocol.tasks, moved.protocol.limit) == (("boolq", "rte"), 3)
    assert (moved.protocol.average, moved.protocol.perplexity) == (("boolq",), ("wikitext2",))
    eep, other, _ = (recipe.steps[0] for recipe in moved.recipes[1:])
    form = CalibrationForm(ref="reference", sequences=4, length=32, seed=7)
    assert eep.calibration == form
    assert other.calibration == form.model_copy(update={"sequences": 2, "length": 16})
    assert other.options == {"ratio": 0.5}
    assert own.recipes[2].steps[0].options == {"ratio": 0.25}


def test_without_a_table_reference_models_get_the_defaults() -> None:
    start, end = GOOD.index("[reference]"), GOOD.index("[[recipes]]")
    moved = suite(GOOD[:start] + GOOD[end:]).on(["reference/mixtral"])
    assert moved.name == "x@reference-mixtral"
    calibration = moved.recipes[1].steps[0].calibration
    assert (calibration.ref, calibration.sequences, calibration.length) == ("reference", 64, 256)
    assert moved.protocol.dtype == "float32"


def test_instructions_stand_in_for_instructions() -> None:
    text = GOOD.replace('ref = "c-moe"', 'ref = "alpaca"')
    steps = [recipe.steps[0] for recipe in suite(text).on(["reference"]).recipes[1:]]
    refs = ["reference-instructions", "reference", "reference-instructions"]
    assert [step.calibration.ref for step in steps] == refs


def test_a_suite_can_leave_tasks_their_own_shots() -> None:
    assert (
        suite(GOOD.replace("[calibration]", 'shots = "own"\n[calibration]', 1)).protocol.shots
        is None
    )


def test_other_models_change_the_models_alone() -> None:
    moved = suite().on(["some/Big-v0.1", "/disk/other"])
    assert moved.name == "x@Big-v0-1+other"
    assert moved.protocol == suite().protocol
    assert moved.recipes == suite().recipes


def test_a_suite_for_reference_models_keeps_its_own_settings() -> None:
    own = suite(GOOD.replace("acme/moe", "reference/qwen2-moe"))
    moved = own.on(["reference/mixtral"])
    assert moved.protocol == own.protocol
    assert moved.recipes == own.recipes


def test_reference_models_and_others_run_apart() -> None:
    with pytest.raises(UserError, match="different protocols; run them apart") as caught:
        suite().on(["reference/mixtral", "acme/moe"])
    assert caught.value.argument == "models"


def test_a_model_named_on_the_command_line_is_not_looked_for_in_the_file() -> None:
    for ref in ("nowhere/at-all.toml", "reference/mixtrl"):
        with pytest.raises(UserError, match=rf"^(?!x\.toml).*{ref}") as caught:
            cells(suite().on([ref]))
        assert caught.value.argument == "models"


def test_what_a_tiny_model_needs_is_checked_like_the_rest() -> None:
    wrong = suite(GOOD.replace("limit = 3 }", 'dtype = "fp32" }'))
    with pytest.raises(UserError, match=r"^x\.toml:15: 'dtype' should be"):
        wrong.on(["reference"])
