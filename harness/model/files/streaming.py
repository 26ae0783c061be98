"""Models opened for streaming: embedding, last norm and head in memory, blocks when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from harness.errors import UserError
from harness.model.checkpoint import plain_files, weight_files
from harness.model.families.switches import switch_off
from harness.model.files.artifact import meta_model
from harness.model.files.beside import WANTED
from harness.model.files.fit import check
from harness.model.files.generation import read_generation
from harness.model.files.head import settle_head
from harness.model.files.identity import check_unchanged, describe, read_config
from harness.model.files.manifest import Manifest, stamp
from harness.model.files.skeleton import build_on_meta
from harness.model.files.tensors import LAYER, agree, frame_state, state
from harness.model.names import EDITS_FILE, folder_of
from harness.model.stored import Files
from harness.model.tokenizer import tokenizer_source
from harness.model.view import MoEModel


def open_streamed(
    ref: str,
    *,
    dtype: torch.dtype | None,
    device: str,
    experts: str,
    attention: str,
    verify: bool = True,
) -> MoEModel:
    """As `open_model` with `streaming`; of a hub id, the whole checkpoint is downloaded.

    Raises:
        UserError: the model is not there, not whole, or not of a known family. A file of an
            artifact that is not the one that was saved is named when it is first read.
    """
    folder = folder_of(ref) or _downloaded(ref)
    if (folder / EDITS_FILE).is_file():
        manifest = Manifest.read(folder, verify=verify)
        files = Files(weight_files(folder), device=device, dtype=dtype, check=manifest.check)
        model = meta_model(manifest, experts=experts, attention=attention)
        try:
            agree(state(model), files.shapes(), folder)
        except UserError:
            manifest.check_all()  # a damaged file is named, if that is why
            raise
    else:
        held = plain_files(folder)
        files = Files(held, device=device, check=_Unchanged(held))
        model = _on_meta(ref, folder, files, dtype, experts=experts, attention=attention)
        check(model, files, folder)
    model.frame.load_state_dict(files.read(frame_state(model)), assign=True, strict=False)
    model.frame.tie_weights()
    model.frame.to(device)  # type: ignore[arg-type]
    model.settle()
    model.stream(files, LAYER)
    return model


def _on_meta(
    ref: str,
    folder: Path,
    files: Files,
    dtype: torch.dtype | None,
    *,
    experts: str,
    attention: str,
) -> MoEModel:
    """A checkpoint's structure on the meta device; the files' number format becomes the model's."""
    config = read_config(ref)
    config.dtype = files.dtype = dtype or config.dtype or _own_dtype(files)
    settle_head(config, files)
    sha256 = describe(ref).sha256
    stated = switch_off(config)
    model = MoEModel(
        build_on_meta(config, experts=experts, attention=attention),
        ref=ref,
        sha256=sha256,
        tokenizer_source=tokenizer_source(ref),
        check=partial(check_unchanged, ref, sha256),
        home=folder,
        stated=stated,
    )
    read_generation(model, folder)
    return model


class _Unchanged:
    """Refuses files that have changed since the model was opened and got its identity."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._stamps = {file: stamp(file) for file in files}

    def __call__(self, file: Path) -> None:
        if stamp(file) != self._stamps[file]:
            raise UserError(f"{file} was changed while the model was open; run again.")


def _own_dtype(files: Files) -> torch.dtype | None:
    """The number format in which transformers loads what no configuration gives one for."""
    tensors = (files.tensor(name) for name in files.names)
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)


def _downloaded(ref: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.safetensors", *WANTED]
        return Path(snapshot_download(ref, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{ref}: it is not whole in the hub's cache, and the hub did not give it."
        ) from error
