"""GPTQModel, in an interpreter of its own where there is one, reads what was exported."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.errors import UserError
from harness.export.tensor_names import module_name
from harness.export.writing import export
from harness.model.quantized.scheme import Scheme
from harness.model.view import MoEModel
from harness.peers.peer import GPTQMODEL
from harness.reference import MODELS

HERE = Path(__file__).parent


@pytest.fixture
def interpreter() -> Path:
    try:
        GPTQMODEL.installed()
    except UserError as error:
        pytest.skip(str(error))
    return GPTQMODEL.interpreter()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "to", "symmetric", "parts"),
    [
        ("deepseek_v2", "gptq", False, ("experts", "shared", "dense", "attention")),
        ("qwen2_moe", "awq", True, ("experts", "attention")),
    ],
)
def test_it_reads_every_matrix(
    family: str,
    to: str,
    symmetric: bool,
    parts: tuple[str, ...],
    interpreter: Path,
    wide: Callable[..., MoEModel],
    quantize: Callable[..., None],
    tmp_path: Path,
) -> None:
    model = wide(family, torch.float16)
    quantize(model, Scheme(bits=4, group=32, symmetric=symmetric), parts)
    folder, out = tmp_path / to, tmp_path / "read.safetensors"
    export(model, folder, to)
    for file in Path(MODELS["reference/mixtral"]).glob("tokenizer*"):  # it does not load without
        shutil.copy(file, folder)
    command = [str(interpreter), str(HERE / "gptqmodel_reads.py"), str(folder), str(out)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GPTQMODEL_CPU_WORKERS": "2", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read = load_file(out)
    for place, block in enumerate(model.blocks):
        for matrix in block.matrices("experts", "shared", "dense", "attention"):
            tensor = read[module_name(block, place, matrix.name)]
            assert torch.equal(tensor, block.weight(matrix)), matrix.name
