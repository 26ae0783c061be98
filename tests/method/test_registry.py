"""Bad options: one sentence, and the nearest name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.calibration.walk import Calibration
from harness.errors import Refused, UserError
from harness.method import registry
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.view import MoEModel


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("eeep", {"keep": 4}, "unknown method 'eeep'. Did you mean 'eep'"),
        ("eep", {"kep": 4}, "unknown option 'kep' of method 'eep'. Did you mean 'keep'"),
        ("eep", {"keep": "many"}, "option 'keep'"),
        ("eep", {"keep": 0}, "option 'keep'"),
        ("eep", {}, "give either keep or ratio"),
        ("eep", {"keep": 4, "ratio": 0.5}, "give either keep or ratio"),
        ("random", {"ratio": 1.0}, "option 'ratio'"),
        ("layer-drop", {"drop": 1, "score": "norm"}, "option 'score'"),
        ("block-drop", {}, "give either drop or ratio"),
        ("wanda", {"sparsity": 0.0}, "option 'sparsity'"),
        ("wanda", {"pattern": "4:2"}, "0 < n < m"),
        ("wanda", {"pattern": "two of four"}, "form n:m"),
        ("wanda", {"sparsity": 0.5, "targets": ["router"]}, "prune_router = true"),
        ("wanda", {"sparsity": 0.5, "targets": ["expert"]}, "option 'targets"),
        ("wanda", {"sparsity": 0.5, "targets": []}, "targets is empty"),
        ("wanda", {"pattern": "2:4", "variant": True}, "variant needs sparsity"),
        ("wanda", {"sparsity": 0.5, "propagate": "pruned"}, "option 'propagate'"),
        ("magnitude", {}, "give either sparsity or pattern"),
        ("magnitude", {"sparsity": 0.5, "pattern": "2:4"}, "give either sparsity or pattern"),
        ("magnitude", {"sparsity": 1.0}, "option 'sparsity'"),
        ("magnitude", {"pattern": "0:4"}, "0 < n < m"),
        ("sparsegpt", {"sparsity": 1.5}, "option 'sparsity'"),
        ("sparsegpt", {"pattern": "2:5"}, "does not divide columns = 128"),
        ("sparsegpt", {"sparsity": 0.5, "damping": 0.0}, "option 'damping'"),
        ("expert-drop", {"keep": 4, "router": "row"}, "option 'router'"),
        ("block-drop", {"drop": 1, "mode": "consecutive", "rescore": True}, "needs discrete"),
        ("block-drop", {"drop": 1, "off_by_one": True}, "off_by_one is about consecutive"),
        ("no/such/file.py:Method", {}, "does not exist"),
    ],
)
def test_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as caught:
        build(name, options, where="suite.toml:3")
    assert str(caught.value).startswith("suite.toml:3: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("eep", {"keep": 7}, "has only 6 experts"),
        ("eep", {"keep": 1}, "keep at least 2"),
        ("expert-drop", {"keep": 1, "scope": "global"}, "keep at least 2"),
        ("random", {"ratio": 0.05}, "removes none"),
        ("layer-drop", {"drop": 5}, "at most 4 can be dropped"),
        ("block-drop", {"drop": 4}, "at most 3 can be dropped"),
        ("wanda", {"pattern": "3:5"}, "'3:5' does not divide the 16 inputs of experts.0.gate"),
        ("magnitude", {"pattern": "3:5"}, "does not divide"),
        ("sparsegpt", {"pattern": "16:32"}, "does not divide"),
        ("magnitude", {"sparsity": 0.5, "targets": ["shared"]}, "mixtral has no 'shared'"),
        ("sparsegpt", {"sparsity": 0.5, "targets": ["dense", "experts"]}, "has no 'dense'"),
    ],
)
def test_budgets_that_do_not_fit(
    name: str,
    options: dict[str, Any],
    message: str,
    tiny: Callable[..., MoEModel],
    calibration: Callable[..., Calibration],
) -> None:
    model = tiny("mixtral")
    with pytest.raises(Refused, match=message):
        compress(model, [BoundStep(build(name, options), calibration())])
    assert model.edits == ()


def test_a_file_without_the_class(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\n")
    with pytest.raises(UserError, match="has no class 'Mine'"):
        build(f"{tmp_path / 'mine.py'}:Mine", {})


def test_options_are_the_same_in_every_process() -> None:
    one = build("wanda", {"sparsity": 0.5, "targets": ["shared", "experts", "attention"]})
    assert one.options()["targets"] == ["attention", "experts", "shared"]


def test_a_method_typed_at_a_prompt_runs(
    tiny: Callable[..., MoEModel], calibration: Callable[..., Calibration]
) -> None:
    """It has no source to be told by: what it leaves is never found in the cache again."""
    names: dict[str, Any] = {"__name__": "a_prompt"}
    exec(TYPED, names)  # noqa: S102
    keys = set()
    for _ in range(2):
        model = tiny("mixtral")
        compress(model, [BoundStep(names["Typed"](), calibration())])
        assert len(model.edits) == 1
        keys.add(model.key(0))
    assert len(keys) == 2


TYPED = """
from harness.method import Method, SetWeights
class Typed(Method):
    name = "typed"
    def compress(self, model, calibration):
        doubled = 2 * model.blocks[0].weight("experts.0.down")
        yield SetWeights.of(0, {"experts.0.down": doubled})
"""


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("UNDEFINED", r"NameError: name 'UNDEFINED' is not defined \(line 2\)"),
        ('raise ValueError("boom")', r"ValueError: boom \(line 2\)"),
        ("import nothing_of_this_name", r"ModuleNotFoundError: No module named 'nothing_of"),
    ],
)
def test_a_file_that_fails_when_imported_is_one_sentence(
    tmp_path: Path, fault: str, said: str
) -> None:
    """Also the second time: no half of it stays."""
    file = tmp_path / "mine.py"
    file.write_text(f"from harness.method import Method\n{fault}\nclass Mine(Method): ...\n")
    for _ in range(2):
        with pytest.raises(UserError, match=f"mine.py' cannot be imported: {said}"):
            registry.method(f"{file}:Mine")


@pytest.mark.parametrize("options", [{"keep": True}, {"keep": 4, "sizes": [4, True]}])
def test_true_is_no_number(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="takes no truth value"):
        build("eep", options)
    assert build("eep", {"keep": 4, "progressive": True}).options()["progressive"] is True
