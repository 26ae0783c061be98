"""Cells without a model behind them, and a results folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cell import Cell, CellStep
from harness.protocol import Protocol
from harness.record import Item, ModelInfo
from harness.store import Store
from harness.suite import CalibrationForm

MakeCell = Callable[..., Cell]


@pytest.fixture
def make_cell() -> MakeCell:
    def make(
        row: str = "eep 4",
        *,
        options: dict[str, object] | None = None,
        source: str = "s" * 64,
        seed: int = 0,
        model: str = "m" * 64,
        protocol: Protocol | None = None,
        calibration: CalibrationForm | None = None,
        method: str = "eep",
        file: str = "",
    ) -> Cell:
        form = calibration or CalibrationForm(sequences=8, length=64, seed=seed)
        given = {"keep": 4, "seed": seed} if options is None else options
        return Cell(
            suite="tiny",
            model=ModelInfo(ref="acme/tiny", family="mixtral", sha256=model, label="tiny"),
            row=row,
            steps=(CellStep(method, given, source, form, file),),
            seed=seed,
            protocol=protocol or Protocol(tasks=("boolq",), average=("boolq",)),
            data="",
        )

    return make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results" / "tiny")


@pytest.fixture
def items() -> list[Item]:
    return [Item(task="boolq", item=f"{n}", prompt="p", metrics={"acc": n % 2}) for n in range(3)]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixtral of two blocks with random weights, and a tokenizer for the embedded data."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    from harness import reference
    from harness.reference.tokenizer import split, tokenizer

    text = (reference.DATA / "calibration.jsonl").read_text(encoding="utf-8")
    words = tokenizer(sorted({word for word in split(text) if word.isalpha()}))
    config = MixtralConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=256,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    MixtralForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
