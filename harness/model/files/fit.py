"""A checkpoint's files held against its configuration, before memory is taken for a tensor."""

from __future__ import annotations

import re
from pathlib import Path

from harness.model.checkpoint import weight_files
from harness.model.files.head import settle_head
from harness.model.files.identity import read_config
from harness.model.files.skeleton import build_on_meta
from harness.model.files.tensors import agree, state
from harness.model.stored import Files
from harness.model.view import MoEModel

_NOT_NEEDED = (r"rotary_emb\.inv_freq$",)
"""Tensors that old checkpoints hold and transformers computes."""


def check_folder(folder: Path, *, experts: str, attention: str) -> None:
    """Compare a checkpoint's configuration with its files' headers; nothing is loaded.

    transformers draws what the files lack, as large as the configuration says, and says so later.

    Args:
        folder: The checkpoint's.
        experts: transformers' experts implementation.
        attention: transformers' attention implementation.

    Raises:
        UserError: as `check`.
    """
    config, files = read_config(str(folder)), Files(weight_files(folder))
    settle_head(config, files)
    lm = build_on_meta(config, experts=experts, attention=attention)
    check(MoEModel(lm, ref=str(folder), sha256="meta"), files, folder)


def check(model: MoEModel, files: Files, folder: Path) -> None:
    """Compare names and shapes of all tensors of a model with the files' headers.

    Raises:
        UserError: one is missing, left over, or of another shape.
    """
    expected = files.expected(state(model))
    ignored = [*_NOT_NEEDED, *(model.frame._keys_to_ignore_on_load_unexpected or ())]
    held = {
        name: tensor
        for name, tensor in files.shapes().items()
        if name in expected or not any(re.search(pattern, name) for pattern in ignored)
    }
    agree(expected, held, folder, what="tensors and configuration")
