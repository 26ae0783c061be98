"""Run by GPTQModel's interpreter: `python gptqmodel_reads.py CHECKPOINT OUT`.

Writes every linear layer as GPTQModel has it after loading: quantized ones as what they do to the
rows of the identity.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from gptqmodel import BACKEND, GPTQModel
from gptqmodel.nn_modules.qlinear import BaseQuantLinear
from safetensors.torch import save_file
from torch import Tensor, nn


def weight(module: nn.Module) -> Tensor | None:
    """[outputs, inputs]; None for what is no linear layer."""
    if isinstance(module, BaseQuantLinear):
        out: Tensor = module(torch.eye(module.in_features, dtype=torch.float16))
        return out.T if module.bias is None else (out - module.bias).T
    return module.weight.detach() if isinstance(module, nn.Linear) else None


def main(checkpoint: str, out: str) -> None:
    """Load and write."""
    backend = BACKEND.AWQ_TORCH if "awq" in Path(checkpoint).name else BACKEND.TORCH
    wrapped = GPTQModel.load(checkpoint, device="cpu", backend=backend, dtype=torch.float16)
    modules = {name: weight(module) for name, module in wrapped.model.named_modules()}
    save_file({n: w.contiguous().clone() for n, w in modules.items() if w is not None}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
