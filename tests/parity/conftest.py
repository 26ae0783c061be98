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
from harness.method.recipe import BoundStep, StepReport, compress
from harness.method.registry import build
from harness.model.editing.matrices import Part
from harness.model.files.opening import open_model
from harness.model.view import MoEModel

DATA = Path(__file__).parent / "data"
Run = Callable[..., tuple[MoEModel, StepReport]]
ROLES = {"gate": "w1", "up": "w3", "down": "w2"}


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


@pytest.fixture(scope="session")
def sparsegpt_weights() -> dict[str, Tensor]:
    return load_file(DATA / "sparsegpt.safetensors")


@pytest.fixture(scope="session")
def authors_name() -> Callable[[int, str], str]:
    """The authors' name of a matrix of a block."""

    def name(block: int, matrix: str) -> str:
        part, _, rest = matrix.partition(".")
        if part == "attention":
            return f"model.layers.{block}.self_attn.{rest}_proj.weight"
        prefix = f"model.layers.{block}.block_sparse_moe"
        if part == "router":
            return f"{prefix}.gate.weight"
        expert, role = rest.split(".")
        return f"{prefix}.experts.{expert}.{ROLES[role]}.weight"

    return name


@pytest.fixture(scope="session")
def wrong_masks(
    keep_mask: Callable[[str], Tensor], authors_name: Callable[[int, str], str]
) -> Callable[..., tuple[int, list[str]]]:
    """How many matrices of these parts were compared, and those whose zeros differ."""

    def compare(model: MoEModel, label: str, *parts: Part) -> tuple[int, list[str]]:
        names = [(block, matrix) for block in model.blocks for matrix in block.matrices(*parts)]
        wrong = []
        for block, matrix in names:
            name = authors_name(block.index, matrix.name)
            if not torch.equal(block.weight(matrix) != 0, keep_mask(f"{label}/{name}")):
                wrong.append(name)
        return len(names), wrong

    return compare


@pytest.fixture
def compressed(input_ids: Tensor) -> Run:
    def run(method: str, *, batch_size: int = 8, **options: Any) -> tuple[MoEModel, StepReport]:
        model = open_model(str(DATA / "model"), dtype=torch.float32, attention="eager")
        tokens = Tokens(input_ids, None, "parity", 0, "tokens of the parity data")
        calibration = Calibration(tokens, batch_size=batch_size)
        (report,) = compress(model, [BoundStep(build(method, options), calibration)])
        return model, report

    return run


@pytest.fixture
def logits(input_ids: Tensor) -> Callable[[MoEModel], Tensor]:
    def of(model: MoEModel) -> Tensor:
        with torch.no_grad():
            return model.lm(input_ids[:2]).logits[:, ::4]  # type: ignore[no-any-return]

    return of
