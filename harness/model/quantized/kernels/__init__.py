"""Kernels for accelerators, written in Triton; nothing here needs Triton to be imported.

Imports model.quantized.scheme.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec

import torch
from torch import Tensor

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def runs_on(x: Tensor) -> bool:
    """True if the kernels multiply `x`: on NVIDIA's devices, where Triton is, without gradients."""
    return (
        x.is_cuda
        and torch.version.hip is None
        and x.dtype in DTYPES
        and not torch.is_grad_enabled()
        and _triton()
    )


@functools.cache
def _triton() -> bool:
    return find_spec("triton") is not None
