"""Artifacts: a compressed model on disk.

A folder with the base model's own configurations (of the model and of its generation), safetensors
of the resulting weights (blocks keep the base's numbers), the tokenizer, and `edits.json`, which
holds the edits and the digest of every other file. Loading builds the base architecture on the meta
device, applies the edits' structure, and loads the tensors strictly.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from harness.disk import scratch
from harness.errors import UserError, first_line
from harness.model.checkpoint import INDEX, weight_files
from harness.model.edits import parse
from harness.model.families.switches import switch_off
from harness.model.files.beside import write_beside
from harness.model.files.generation import read_generation
from harness.model.files.identity import read_config, write_config
from harness.model.files.manifest import Manifest, write_manifest
from harness.model.files.skeleton import build_on_meta
from harness.model.files.tensors import LAYER, _parts, agree, state
from harness.model.layers.packed import settle
from harness.model.names import EDITS_FILE
from harness.model.stored import Files
from harness.model.tokenizer import tokenizer_source
from harness.model.view import MoEModel


def save(
    model: MoEModel,
    folder: Path,
    *,
    recipe: Sequence[Mapping[str, Any]] = (),
    calibration: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write an artifact; the folder appears whole or not at all.

    Of a streamed model every block gets a file of its own, and one is in memory at a time.

    Args:
        model: The compressed model.
        folder: Must not exist, or be empty.
        recipe: The steps, with their options, for the reader.
        calibration: What each step was calibrated on, for the reader.

    Raises:
        UserError: the folder holds something, or it cannot be written (no space left).
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; name a new folder.")
    try:
        with scratch.folder(folder.parent, folder.name) as place:
            whole = place / "artifact"
            _write(model, whole, recipe, calibration)
            if folder.exists():
                folder.rmdir()
            whole.rename(folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"the artifact {folder} cannot be written: {first_line(error)}.") from error


def _write(
    model: MoEModel,
    folder: Path,
    recipe: Sequence[Mapping[str, Any]],
    calibration: Sequence[Mapping[str, Any]],
) -> None:
    folder.mkdir()
    write_config(model.stated_config, folder)
    if model.streamed:
        _write_parts(model, folder)
    else:
        save_torch_state_dict(state(model), str(folder))
    write_beside(model, folder)
    text = {
        "base": {"ref": model.ref, "sha256": model.sha256},
        "recipe": list(recipe),
        "calibration": list(calibration),
        "edits": [edit.data() for edit in model.edits],
    }
    write_manifest(folder, text)


def _write_parts(model: MoEModel, folder: Path) -> None:
    total = 1 + len(model.numbers)
    where: dict[str, str] = {}
    size = 0
    for number, part in enumerate(_parts(model), start=1):
        file = f"model-{number:05}-of-{total:05}.safetensors"
        whole = {name: tensor.contiguous() for name, tensor in part.items()}
        save_file(whole, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
        size += sum(tensor.nbytes for tensor in part.values())
    text = {"metadata": {"total_size": size}, "weight_map": where}
    (folder / INDEX).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def meta_model(manifest: Manifest, *, experts: str, attention: str) -> MoEModel:
    """An artifact's structure on the meta device.

    Raises:
        UserError: an edit is not known or does not fit, or `config.json` is corrupt.
    """
    folder = manifest.folder
    config = read_config(str(folder))
    stated = switch_off(config)
    lm = build_on_meta(config, experts=experts, attention=attention)
    model = MoEModel(
        lm,
        ref=str(manifest.base.get("ref")),
        sha256=str(manifest.base.get("sha256")),
        tokenizer_source=tokenizer_source(str(folder)),
        check=manifest.check_small,
        home=folder,
        stated=stated,
    )
    for number, data in enumerate(manifest.edits):
        model.apply(parse(data, where=f"{folder / EDITS_FILE}, edit {number}"))
    model.identify(manifest.identity)
    read_generation(model, folder)
    return model


def load(
    folder: Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    experts: str = "grouped_mm",
    attention: str = "sdpa",
    verify: bool = True,
) -> MoEModel:
    """Load an artifact.

    Args:
        folder: The artifact's.
        device: Where to.
        dtype: None for the artifact's own.
        experts: transformers' experts implementation.
        attention: transformers' attention implementation.
        verify: Refuse files that are not those that were saved.

    Raises:
        UserError: a file is missing, truncated, corrupt or not the one that was saved, or tensors
            and edits do not agree.
    """
    manifest = Manifest.read(folder, verify=verify)
    files = Files(weight_files(folder), device=device, dtype=dtype, check=manifest.check)
    manifest.check_all()
    model = meta_model(manifest, experts=experts, attention=attention)
    agree(state(model), files.shapes(), folder)
    _fill(model, files.read(state(model)), folder)
    for module in (model.frame, *(model.layer(index) for index in model.numbers)):
        module.to(device)  # buffers, which are in no file
        settle(module)
    return model


def _fill(model: MoEModel, tensors: Mapping[str, Tensor], folder: Path) -> None:
    frame = {name: tensor for name, tensor in tensors.items() if not name.startswith(LAYER)}
    model.frame.load_state_dict(frame, assign=True, strict=False)
    model.frame.tie_weights()
    for index in model.numbers:
        prefix = f"{LAYER}{index}."
        layer = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        model.layer(index).load_state_dict(layer, assign=True, strict=True)
    model.settle()
    left = [name for name, tensor in state(model).items() if tensor.is_meta]
    if left:
        raise UserError(f"{folder}: {len(left)} tensors got no values, the first is {left[0]}.")


def remove(folder: Path) -> None:
    """Delete an artifact; nothing happens where there is none."""
    shutil.rmtree(folder, ignore_errors=True)
