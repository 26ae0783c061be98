"""Fixtures of all rooms: tiny models, calibrations, cells, a results folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    # Read when Triton is imported, which transformers does: kernels then run on the processor.
    os.environ["TRITON_INTERPRET"] = "1"

from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from harness.model.families import deepseek
from harness.model.families.families import FAMILIES
from harness.model.files.skeleton import build_on_meta
from harness.model.view import MoEModel
from harness.records.record import Item
from harness.records.store import Store
from tests import cells
from tests.models import CONFIGS, VOCABULARY

deepseek.register()


@pytest.fixture(scope="session")
def configs() -> dict[str, Callable[[], PretrainedConfig]]:
    return CONFIGS


@pytest.fixture(params=["deepseek_v2", "mixtral", "qwen2_moe"])
def family(request: pytest.FixtureRequest) -> str:
    """The families that differ in how they route."""
    return str(request.param)


@pytest.fixture(scope="session")
def random_lm() -> Callable[..., PreTrainedModel]:
    def make(family: str, seed: int = 0) -> PreTrainedModel:
        generator = torch.Generator().manual_seed(seed)
        auto: Any = AutoModelForCausalLM  # its methods have no annotations
        lm: PreTrainedModel = auto.from_config(CONFIGS[family](), dtype=torch.float32)
        with torch.no_grad():
            for parameter in lm.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.3, generator=generator)
        if not FAMILIES[family].dense:
            lm.set_experts_implementation("grouped_mm")
        lm.train(False)
        return lm

    return make


@pytest.fixture(scope="session")
def tiny(random_lm: Callable[..., PreTrainedModel]) -> Callable[..., MoEModel]:
    def build(family: str, *, meta: bool = False) -> MoEModel:
        if meta:
            lm = build_on_meta(CONFIGS[family](), experts="grouped_mm", attention="sdpa")
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
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    from harness import reference
    from harness.reference.training.tokenizer import split, tokenizer

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
