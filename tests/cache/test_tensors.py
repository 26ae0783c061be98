from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.cache import tensors
from tests.cache import damage
from tests.cache.conftest import warnings
from tests.cache.damage import Damage

HELD = {"sums/a": torch.arange(6.0).view(2, 3), "count": torch.tensor(3)}


def same(one: dict[str, Tensor] | None) -> bool:
    return (
        one is not None
        and one.keys() == HELD.keys()
        and all(
            torch.equal(one[name], HELD[name]) and one[name].dtype == HELD[name].dtype
            for name in HELD
        )
    )


def test_tensors_come_back(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "one"
    assert tensors.read(path, HELD) is None
    tensors.write(path, HELD)
    assert same(tensors.read(path, HELD))
    assert warnings(caplog) == []


@pytest.mark.parametrize("harm", damage.ALL)
def test_damaged_ones_are_one_warning_and_none(
    harm: Damage, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "one"
    tensors.write(path, HELD)
    harm(path)
    assert tensors.read(path, HELD) is None
    [warning] = warnings(caplog)
    assert warning.startswith(f"{path}: ")


@pytest.mark.parametrize(
    "other",
    [
        {"sums/a": HELD["sums/a"]},
        {**HELD, "more": torch.zeros(1)},
        {"sums/b": HELD["sums/a"], "count": HELD["count"]},
        {**HELD, "sums/a": HELD["sums/a"].view(3, 2)},
        {**HELD, "sums/a": HELD["sums/a"].double()},
    ],
)
def test_others_than_expected_are_not_believed(
    other: dict[str, Tensor], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "one"
    tensors.write(path, other)
    assert tensors.read(path, HELD) is None
    assert warnings(caplog) == [
        f"{path}: it holds tensors of other names, shapes or types; it is made again"
    ]


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_values_are_finite_where_that_is_promised(value: float, folder: Path) -> None:
    path, held = folder / "one", {"x": torch.tensor([0.0, value])}
    tensors.write(path, held)
    assert tensors.read(path, held) is None
    assert tensors.read(path, held, finite=False) is not None


def test_views_and_tensors_with_the_same_memory_are_kept(folder: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    held = {"all": whole, "columns": whole.T, "part": whole[1], "wide": torch.ones(()).expand(2, 2)}
    tensors.write(folder / "one", held)
    read = tensors.read(folder / "one", held)
    assert read is not None
    assert all(torch.equal(read[name], held[name]) for name in held)
