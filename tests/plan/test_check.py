"""Names in a suite: each that does not exist is said with its line and the nearest."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.plan.check import check
from harness.plan.suite import Suite

GOOD = """\
models = ["reference/mixtral"]
[protocol]
tasks = ["boolq", "mmlu"]
average = ["boolq"]
perplexity = ["wikitext2", "ptb"]
[calibration]
ref = "reference"
[[recipes]]
name = "one"
steps = [{ method = "eep", keep = 4, seed = 3 }]
[[recipes]]
name = "two"
  [[recipes.steps]]
  method = "random"
  ratio = 0.5
  [[recipes.steps]]
  method = "eep"
  keep = 4
  progressive = true
  calibration = { ref = "reference" }
"""


def suite(text: str) -> Suite:
    return Suite.parse(text, name="x", source="x.toml")


def test_a_good_suite_passes() -> None:
    check(suite(GOOD))


def test_models_that_are_still_to_be_made_are_said_with_the_command() -> None:
    text = 'made_by = "make models"\n' + GOOD.replace("reference/mixtral", "./made/one")
    with pytest.raises(UserError) as caught:
        check(suite(text))
    assert str(caught.value) == "x.toml:2: ./made/one is not there; make it with `make models`."
    check(suite(text).on(["reference/mixtral"]))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("keep = 4, seed", "kep = 4, seed", "x.toml:10: unknown option 'kep' of method 'eep'. Did"),
        ("progressive", "progresive", "x.toml:19: unknown option 'progresive' of method 'eep'."),
        ("progressive = true", "progressive = 1", "x.toml:19: method 'eep': option 'progress"),
        ("ratio = 0.5", "ratio = 1.5", "x.toml:15: method 'random': option 'ratio' should be l"),
        ("ratio = 0.5", "", "x.toml:13: method 'random': give either keep or ratio."),
        ('method = "random"', 'method = "randon"', "x.toml:14: unknown method 'randon'. Did you"),
        pytest.param(
            '["boolq", "mmlu"]',
            '["boolq", "mmlv"]',
            "x.toml:3: unknown task 'mmlv'. Did you mean 'mmlu'?",
            marks=pytest.mark.slow,  # reads lm-eval's whole index
        ),
        ('["boolq"]', '["bolq"]', "x.toml:4: 'average' names 'bolq', which is not among the tas"),
        ('"ptb"]', '"ptp"]', "x.toml:5: unknown perplexity text 'ptp'. Did you mean 'ptb'?"),
        ('ref = "reference"\n', 'ref = "referense"\n', "x.toml:7: unknown calibration 'referense'"),
        ('{ ref = "reference" }', '{ ref = "c5" }', "x.toml:20: unknown calibration 'c5'."),
    ],
)
def test_faults(old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        check(suite(GOOD.replace(old, new, 1)))
    sentence = str(caught.value)
    assert sentence.startswith(said), sentence
    assert "\n" not in sentence
