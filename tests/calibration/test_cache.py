"""Statistics and tokens that were kept: right whatever became of their files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from harness.cache import keeping, tensors
from harness.calibration.cache import keep_tokens
from harness.calibration.observe import Seen
from harness.calibration.statistic import Statistic
from harness.calibration.statistics.similarity import Similarity
from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from harness.errors import Refused, UserError
from harness.model.view import Block, MoEModel
from tests.cache import damage
from tests.cache.conftest import warnings
from tests.cache.damage import Damage

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]


@pytest.fixture(autouse=True)
def unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_warned", False)


def collect(model: MoEModel, calibration: Calibration) -> list[float]:
    with torch.no_grad():
        return [float(b.collect(Similarity()).residual) for b in calibration.walk(model)]


def kept(calibration: Calibration) -> list[Path]:
    folder = calibration.cache.folder
    assert folder is not None
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("harm", damage.ALL)
def test_damaged_statistics_are_taken_again_with_a_warning_each(
    harm: Damage, tiny: Tiny, calibration: Calibrate, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = calibration(cache=True)
    wanted = collect(tiny("mixtral"), tokens)
    files = kept(tokens)
    for file in files:
        harm(file)
    assert collect(tiny("mixtral"), calibration(cache=True)) == wanted
    assert len(files) == len(warnings(caplog)) == 8  # similarity and tokens of four blocks
    assert all(any(str(file) in text for text in warnings(caplog)) for file in files)
    caplog.clear()
    assert collect(tiny("mixtral"), calibration(cache=True)) == wanted
    assert warnings(caplog) == []


def test_statistics_of_another_shape_are_taken_again(
    tiny: Tiny, calibration: Calibrate, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = calibration(cache=True)
    wanted = collect(tiny("mixtral"), tokens)
    for file in kept(tokens):
        names = ("residual", "layer", "tokens")
        tensors.write(file, {name: torch.zeros(1, dtype=torch.float64) for name in names})
    assert collect(tiny("mixtral"), calibration(cache=True)) == wanted
    assert len(warnings(caplog)) == 8


def test_a_cache_that_is_no_folder_costs_no_statistic(
    tiny: Tiny, calibration: Calibrate, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = collect(tiny("mixtral"), calibration())
    tokens = calibration(cache=True)
    assert tokens.cache.folder is not None
    tokens.cache.folder.write_text("no folder")
    assert collect(tiny("mixtral"), tokens) == wanted
    assert len(warnings(caplog)) == 1


class Rows(Statistic):
    """An author's: its result is in a list, which no file would hold."""

    def start(self, block: Block) -> None:
        self.rows: list[Tensor] = []

    def update(self, seen: Seen) -> None:
        self.rows.append(seen.x)


def test_a_statistic_without_tensors_is_taken_every_time(
    tiny: Tiny, calibration: Calibrate
) -> None:
    for _ in range(2):
        with torch.no_grad():
            assert all(
                b.collect(Rows()).rows for b in calibration(cache=True).walk(tiny("mixtral"))
            )


class Scaled(Statistic):
    """An author's: its factor has a private name."""

    def __init__(self, factor: object) -> None:
        self._factor = factor

    def start(self, block: Block) -> None:
        self.load = torch.zeros((), dtype=torch.float64)

    def update(self, seen: Seen) -> None:
        factor = self._factor() if callable(self._factor) else self._factor
        self.load += factor * len(seen.x)  # type: ignore[operator]


def made_for(factor: float) -> type[Statistic]:
    """A class whose code has a variable of a function."""

    class Made(Scaled):
        def __init__(self) -> None:
            super().__init__(0.0)

        def update(self, seen: Seen) -> None:
            self.load += factor * len(seen.x)

    return Made


@pytest.mark.parametrize(
    "make",
    [
        Scaled,
        lambda factor: Scaled(torch.tensor(factor)),
        lambda factor: Scaled(lambda: factor),
        lambda factor: made_for(factor)(),
    ],
    ids=["number", "tensor", "function", "closure"],
)
def test_an_option_decides_whatever_its_name_and_kind(
    make: Callable[[float], Statistic], tiny: Tiny, calibration: Calibrate
) -> None:
    loads = []
    for factor in (1.0, -1.0, -1.0):
        with torch.no_grad():
            block = next(iter(calibration(cache=True).walk(tiny("mixtral"))))
            loads.append(float(block.collect(make(factor)).load))  # type: ignore[attr-defined]
    assert loads[0] == -loads[1] == -loads[2] > 0


class Broken(Statistic):
    """NaN in the second element."""

    def start(self, block: Block) -> None:
        self.sums = torch.zeros(2)

    def update(self, seen: Seen) -> None:
        self.sums += torch.tensor([1.0, math.nan])


class Honest(Broken):
    """The same, and says so."""

    finite: ClassVar[bool] = False


def test_what_promises_finite_values_and_has_others_is_refused_and_not_kept(
    tiny: Tiny, calibration: Calibrate
) -> None:
    tokens = calibration(cache=True)
    with torch.no_grad(), pytest.raises(Refused, match="block 0: Broken, sums, is not finite"):
        next(iter(tokens.walk(tiny("mixtral")))).collect(Broken())
    assert kept(tokens) == []


def test_what_may_hold_nan_is_kept(
    tiny: Tiny, calibration: Calibrate, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        tokens = calibration(cache=True)
        with torch.no_grad():
            for block in tokens.walk(tiny("mixtral")):
                assert block.collect(Honest()).sums.isnan().tolist() == [False, True]
        assert len(kept(tokens)) == 8
    assert warnings(caplog) == []


def made(answers: bool = True) -> Tokens:
    mask = torch.arange(4) < torch.tensor([[4], [2], [1]])  # [3, 4]
    told = mask & (torch.arange(4) > 1) if answers else None
    return Tokens(torch.arange(12).view(3, 4), mask, "eep", 42, "A sentence.", told)


@pytest.mark.parametrize("harm", damage.ALL)
def test_damaged_tokens_are_written_again_with_one_warning(
    harm: Damage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_tokens(made(), tmp_path)
    [path] = (tmp_path / "tokens").iterdir()
    whole = path.read_bytes()
    harm(path)
    keep_tokens(made(), tmp_path)
    assert path.read_bytes() == whole
    [warning] = warnings(caplog)
    assert warning.startswith(f"{path}: ")
    keep_tokens(made(), tmp_path)
    assert len(warnings(caplog)) == 1


def test_tokens_under_the_name_of_others_are_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_tokens(made(), tmp_path)
    [path] = (tmp_path / "tokens").iterdir()
    made(answers=False).save(path)
    keep_tokens(made(), tmp_path)
    assert Tokens.load(path).sha256 == made().sha256 == path.stem
    assert warnings(caplog) == [f"{path}: it holds other tokens; it is made again"]


def test_a_cache_that_is_no_folder_costs_no_tokens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    folder.write_text("no folder")
    keep_tokens(made(), folder)
    [warning] = warnings(caplog)
    assert str(folder) in warning


def test_no_bit_of_kept_tokens_can_turn_and_tell_another_story(tmp_path: Path) -> None:
    path = tmp_path / "tokens.safetensors"
    tokens = made()
    tokens.save(path)
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << (place % 8)
        path.write_bytes(data)
        try:
            read = Tokens.load(path, saved=True)
        except UserError:
            refused += 1
            continue
        assert read.sha256 == tokens.sha256
        assert (read.ref, read.seed, read.source) == (tokens.ref, tokens.seed, tokens.source)
    assert refused > 0.9 * len(whole)
