"""Models opened for streaming: embedding, last norm and head in memory, blocks when asked for."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from harness.errors import UserError
from harness.model.checkpoint import weight_files
from harness.model.files.artifact import meta_model
from harness.model.files.identity import describe, read_config
from harness.model.files.skeleton import build_on_meta
from harness.model.files.tensors import LAYER, agree, frame_state, state
from harness.model.names import EDITS_FILE, folder_of
from harness.model.stored import Files
from harness.model.tokenizer import tokenizer_source
from harness.model.view import MoEModel

_NOT_NEEDED = (r"rotary_emb\.inv_freq$",)
"""Tensors that old checkpoints hold and transformers computes."""


def open_streamed(
    ref: str, *, dtype: torch.dtype | None, device: str, experts: str, attention: str
) -> MoEModel:
    """As `open_model` with `streaming`; of a hub id, the whole checkpoint is downloaded.

    Raises:
        UserError: the model is not there, not whole, or not of a known family.
    """
    folder = folder_of(ref) or _downloaded(ref)
    if (folder / EDITS_FILE).is_file():
        model = meta_model(folder, experts=experts, attention=attention)
        what = "tensors and edits"
    else:
        model = _on_meta(ref, dtype, experts=experts, attention=attention)
        what = "tensors and configuration"
    files = Files(weight_files(folder), device=device, dtype=dtype)
    _check(model, files, folder, what)
    model.frame.load_state_dict(files.read(frame_state(model)), assign=True, strict=False)
    model.frame.tie_weights()
    model.frame.to(device)  # type: ignore[arg-type]
    model.settle()
    model.stream(files, LAYER)
    return model


def _on_meta(ref: str, dtype: torch.dtype | None, *, experts: str, attention: str) -> MoEModel:
    config = read_config(ref)
    config.dtype = dtype or config.dtype
    return MoEModel(
        build_on_meta(config, experts=experts, attention=attention),
        ref=ref,
        sha256=describe(ref).sha256,
        tokenizer_source=tokenizer_source(ref),
    )


def _check(model: MoEModel, files: Files, folder: Path, what: str) -> None:
    """Compare names and shapes of all tensors with the files' headers, before anything runs."""
    expected = files.expected(state(model))
    ignored = [*_NOT_NEEDED, *(model.frame._keys_to_ignore_on_load_unexpected or ())]
    if model.config.tie_word_embeddings:
        ignored.append(r"^lm_head\.weight$")
    held = {
        name: tensor
        for name, tensor in files.shapes().items()
        if name in expected or not any(re.search(pattern, name) for pattern in ignored)
    }
    agree(expected, held, folder, what=what)


def _downloaded(ref: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(ref, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        raise UserError(f"{ref} cannot be downloaded: {error}.") from error
