"""Fixtures of all rooms: tiny models, calibrations, cells, a results folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    # Read when Triton is imported, which transformers does: kernels then run on the processor.
    os.environ["TRITON_INTERPRET"] = "1"

from transformers import PreTrainedModel

from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from harness.model.families import deepseek
from harness.model.families.family import FAMILIES
from harness.model.files.skeleton import build_on_meta
from harness.model.view import MoEModel
from harness.records.record import Item
from harness.records.store import Store
from tests import cells
from tests.kills import table as kills
from tests.methods.contract import summary as contract
from tests.models import VOCABULARY, draw_weights, from_config, save_checkpoint, tiny_config

deepseek.register()


REAL_TEXTS = Path(__file__).parents[2] / "shared" / "data"
"""WikiText-2 and Penn Treebank, which are not ours to ship, beside the checkout where they are."""


def pytest_report_header() -> str:
    there = "tests on real texts run" if REAL_TEXTS.is_dir() else "tests on real texts are skipped"
    return f"{there}: {REAL_TEXTS}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-contract",
        action="store_true",
        help="write docs/contract.md from the cases of the methods' contract that ran",
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    kills.tell(terminalreporter)
    contract.tell(terminalreporter, update=bool(config.getoption("--update-contract")))


@pytest.fixture(scope="session")
def real_texts() -> Path:
    if not REAL_TEXTS.is_dir():
        pytest.skip("the real texts are not beside this checkout")
    return REAL_TEXTS


@pytest.fixture(params=["deepseek_v2", "mixtral", "qwen2_moe"])
def family(request: pytest.FixtureRequest) -> str:
    """The families that differ in how they route."""
    return str(request.param)


@pytest.fixture(scope="session")
def random_lm() -> Callable[..., PreTrainedModel]:
    def make(family: str, seed: int = 0) -> PreTrainedModel:
        lm = from_config(tiny_config(family), dtype=torch.float32)
        draw_weights(lm, seed)
        if not FAMILIES[family].dense:
            lm.set_experts_implementation("grouped_mm")
        return lm

    return make


@pytest.fixture(scope="session")
def tiny(random_lm: Callable[..., PreTrainedModel]) -> Callable[..., MoEModel]:
    def build(family: str, *, meta: bool = False) -> MoEModel:
        if meta:
            lm = build_on_meta(tiny_config(family), experts="grouped_mm", attention="sdpa")
            return MoEModel(lm, ref=family, sha256="meta")
        return MoEModel(random_lm(family), ref=family, sha256=family)

    return build


@pytest.fixture
def calibration(tmp_path: Path) -> Callable[..., Calibration]:
    def build(*, padded: bool = False, cache: bool = False, sequences: int = 6) -> Calibration:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(0, VOCABULARY, (sequences, 12), generator=generator)
        mask = torch.ones_like(ids, dtype=torch.bool)
        if padded:
            mask[1, 7:] = False
            mask[4, 3:] = False
        tokens = Tokens(ids, mask, "made up", 0, "random ids")
        return Calibration(tokens, batch_size=4, cache=tmp_path / "cache" if cache else None)

    return build


@pytest.fixture
def make_cell() -> cells.MakeCell:
    return cells.make_cell


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results" / "tiny")


@pytest.fixture
def items() -> list[Item]:
    return [Item(task="boolq", item=f"{n}", prompt="p", metrics={"acc": n % 2}) for n in range(3)]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixtral of two blocks with random weights, and a tokenizer for the embedded data."""
    return save_checkpoint(tmp_path_factory.mktemp("models") / "tiny")
