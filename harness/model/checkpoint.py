"""Checkpoint folders: what is in them, whether it is whole, and its identity."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from harness.cache.notes import file_sha256
from harness.errors import UserError

INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: the file is missing, truncated, or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing.") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} does not hold a JSON object.")
    return data


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, each opened to see that it is whole.

    Raises:
        UserError: none (pickle checkpoints are refused), a shard is missing, or one is corrupt.
    """
    files = _shards(folder)
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                tensors.keys()
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} is truncated or corrupt: {error}; copy it again.") from error
    return files


def _shards(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.is_file():
        names = set(read_json(index).get("weight_map", {}).values())
        missing = sorted(name for name in names if not (folder / name).is_file())
        if missing:
            raise UserError(
                f"{folder}: {len(missing)} of {len(names)} shards are missing, "
                f"the first is {missing[0]}."
            )
        return sorted(folder / name for name in names)
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
    if pickles:
        raise UserError(
            f"{folder} holds a pickle checkpoint ({pickles[0]}), which can run code when loaded; "
            "convert it to safetensors first."
        )
    raise UserError(f"{folder} holds no safetensors file.")


def checkpoint_sha256(folder: Path) -> str:
    """Identity of configuration and weights: a hash of the files' content."""
    content = hashlib.sha256()
    for file in [folder / "config.json", *_shards(folder)]:
        content.update(file.name.encode())
        content.update(file_sha256(file).encode())
    return content.hexdigest()
