from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from harness.compress import Step, StepReport, compress
from harness.model.source import open_model
from harness.model.view import MoEModel
from harness.registry import build

DATA = Path(__file__).parent / "data"
Run = Callable[..., tuple[MoEModel, StepReport]]


@pytest.fixture(scope="session")
def expected() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((DATA / "expected.json").read_text())
    return facts


@pytest.fixture(scope="session")
def authors_logits() -> dict[str, Tensor]:
    return load_file(DATA / "logits.safetensors")


@pytest.fixture(scope="session")
def input_ids() -> Tensor:
    return load_file(DATA / "calibration.safetensors")["input_ids"]  # [16, 128]


@pytest.fixture(scope="session")
def keep_mask() -> Callable[[str], Tensor]:
    packed = np.load(DATA / "masks.npz")
    shapes = json.loads((DATA / "mask_shapes.json").read_text())

    def mask(name: str) -> Tensor:
        rows, columns = shapes[name]
        bits = np.unpackbits(packed[name.replace("/", "|")])[: rows * columns]
        return torch.from_numpy(bits.reshape(rows, columns).astype(bool))

    return mask


@pytest.fixture
def compressed(input_ids: Tensor) -> Run:
    def run(method: str, *, batch_size: int = 8, **options: Any) -> tuple[MoEModel, StepReport]:
        model = open_model(str(DATA / "model"), dtype=torch.float32, attention="eager")
        tokens = Tokens(input_ids, None, "parity", 0, "tokens of the parity data")
        calibration = Calibration(tokens, batch_size=batch_size)
        (report,) = compress(model, [Step(build(method, options), calibration)])
        return model, report

    return run


@pytest.fixture
def logits(input_ids: Tensor) -> Callable[[MoEModel], Tensor]:
    def of(model: MoEModel) -> Tensor:
        with torch.no_grad():
            return model.lm(input_ids[:2]).logits[:, ::4]  # type: ignore[no-any-return]

    return of
