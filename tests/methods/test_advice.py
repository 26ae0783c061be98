"""Where a refusal names a method, an option or an order, following it works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.calibration.walk import Calibration
from harness.errors import UserError
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.view import MoEModel
from methods.experts import eep

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]
Recipe = list[tuple[str, dict[str, Any]]]
FEW = {"population": 6, "iterations": 2}
PARTS = {"targets": ["attention"]}
DROPPED: Recipe = [("layer-drop", {"drop": 4})]
MERGED: Recipe = [("hc-smoe", {"keep": 4})]
PACKED: Recipe = [("rtn", {"group": 32})]
RANK = {"rank": 4}

TABLE: list[tuple[Recipe, str, list[Recipe]]] = [
    # what is refused; a part of the sentence; what it advises
    ([("reap", {"keep": 1})], "keep at least 2", [[("reap", {"keep": 2})]]),
    ([("eep", {"ratio": 0.01})], "raise it", [[("eep", {"ratio": 0.3})]]),
    ([("layer-drop", {"drop": 5})], "at most 4", [DROPPED]),
    (
        [("svd", {"rank": 12})],
        "lower the rank to 9 or less, or set larger = true",
        [[("svd", {"rank": 9})], [("svd", {"rank": 12, "larger": True})]],
    ),
    ([("svd", {"rank": 17})], "lower the rank", [[("svd", {"rank": 9})]]),
    (
        [("svd", {"ratio": 0.9, "multiple": 8})],
        "lower multiple, or remove less",
        [[("svd", {"ratio": 0.9})], [("svd", {"ratio": 0.1, "multiple": 8})]],
    ),
    (
        [("wanda", {"sparsity": 0.5, "targets": ["router"]})],
        "set prune_router = true",
        [[("wanda", {"sparsity": 0.5, "targets": ["router"], "prune_router": True})]],
    ),
    ([*DROPPED, ("svd", RANK)], "set other targets", [[*DROPPED, ("svd", {**RANK, **PARTS})]]),
    (
        [*DROPPED, ("wanda", {"sparsity": 0.5})],
        "set targets",
        [[*DROPPED, ("wanda", {"sparsity": 0.5, **PARTS})]],
    ),
    (
        [*MERGED, ("greedy", {"keep": 3})],
        "prune before merging",
        [[("greedy", {"keep": 5}), ("hc-smoe", {"keep": 4})]],
    ),
    (
        [*MERGED, ("m-smoe", {"keep": 3})],
        "use it before other merging",
        [[("m-smoe", {"keep": 5}), ("hc-smoe", {"keep": 3})]],
    ),
    ([("svd", RANK), *MERGED], "merge first", [[*MERGED, ("svd", RANK)]]),
    ([*PACKED, *MERGED], "merge first", [[*MERGED, *PACKED]]),
    ([*PACKED, ("svd", RANK)], "factorise before quantizing", [[("svd", RANK), *PACKED]]),
    (
        [*PACKED, ("magnitude", {"sparsity": 0.5})],
        "change weights before quantizing",
        [[("magnitude", {"sparsity": 0.5}), *PACKED]],
    ),
]


def run(recipe: Recipe, model: MoEModel, calibration: Calibration) -> None:
    compress(model, [BoundStep(build(name, options), calibration) for name, options in recipe])


@pytest.mark.parametrize(("refused", "says", "advised"), TABLE, ids=[row[1] for row in TABLE])
def test_advice_works(
    refused: Recipe, says: str, advised: list[Recipe], tiny: Tiny, calibration: Calibrate
) -> None:
    with pytest.raises(UserError, match=says):
        run(refused, tiny("mixtral"), calibration())
    for recipe in advised:
        run(recipe, tiny("mixtral"), calibration())


def test_other_searches_take_on_what_enumeration_does_not(
    tiny: Tiny, calibration: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eep, "MOST_SUBSETS", 10)
    with pytest.raises(UserError, match="use moe-i2-prune or greedy, or drop fewer experts"):
        run([("eep", {"keep": 3})], tiny("mixtral"), calibration())
    run([("moe-i2-prune", {"keep": 3, **FEW})], tiny("mixtral"), calibration())
    run([("greedy", {"keep": 3})], tiny("mixtral"), calibration())
    run([("eep", {"keep": 5})], tiny("mixtral"), calibration())
