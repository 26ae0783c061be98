from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel


@pytest.fixture(params=["deepseek", "deepseek_v2", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe"])
def family(request: pytest.FixtureRequest) -> str:
    """All that have experts."""
    return str(request.param)


@pytest.fixture
def checkpoint(tmp_path: Path, random_lm: Callable[..., PreTrainedModel]) -> Callable[..., Path]:
    """A sharded safetensors checkpoint as transformers writes it, one expert a tensor."""

    def write(family: str, shard: str = "20KB") -> Path:
        folder = tmp_path / family
        random_lm(family).save_pretrained(folder, max_shard_size=shard)
        return folder

    return write


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 53, (2, 24), generator=torch.Generator().manual_seed(5))
