"""Loaded before any test module, and so before anything imports Triton, which reads it then."""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # kernels run on the processor
