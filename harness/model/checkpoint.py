"""Checkpoint folders: what transformers reads of them, whether it is whole, and its identity."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open

from harness.cache.notes import file_sha256
from harness.disk.reading import is_file, read_json
from harness.errors import UserError, first_line

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
_READ = (".json", ".txt", ".model", ".jinja")
"""Endings of what transformers reads beside weights: configurations, vocabularies, templates."""
_TEMPLATES = "additional_chat_templates"
_DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
_CODES = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "F4")
"""safetensors' names of formats that no weight is in which is not quantized."""
_OF_CODES = (
    *(".qweight", ".qzeros", ".scales", ".g_idx", ".weight_packed", ".weight_scale", ".SCB"),
    *(".weight_scale_inv", ".weight_zero_point", ".absmax", ".quant_map", ".input_scale"),
)
"""Ends of the names of tensors that GPTQ, AWQ, compressed-tensors, bitsandbytes and fp8 store."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class Index(BaseModel):
    """The index of a checkpoint in several files; what else it says is not read."""

    weight_map: dict[str, str] = Field(min_length=1)
    """Name of the file that holds a tensor, by the tensor's name."""
    metadata: dict[str, Any]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, each opened to see that it is whole.

    Raises:
        UserError: as `shards`, or a file is corrupt.
    """
    files = shards(folder)
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                tensors.keys()
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{file} is truncated or corrupt: {first_line(error)}; copy it again."
            ) from error
    return files


def plain_files(folder: Path) -> list[Path]:
    """As `weight_files`, of a checkpoint that nobody has quantized.

    A configuration may have lost what would tell, and numbers of 8 bits would be read as weights.

    Raises:
        UserError: as `weight_files`, or a tensor is of a quantized weight; it is named.
    """
    files = weight_files(folder)
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                coded = name.endswith(".weight") and tensors.get_slice(name).get_dtype() in _CODES
                if coded or name.endswith(_OF_CODES) or ".quant_state." in name:
                    raise refused_quantized(str(folder), f"{file.name} holds {name}")
    return files


def refused_quantized(ref: str, why: str) -> UserError:
    """The error for a checkpoint that another library has quantized."""
    return UserError(
        f"{ref} is quantized already ({why}); take the checkpoint that it was made from, or an "
        "artifact."
    )


def shards(folder: Path) -> list[Path]:
    """The files that transformers takes a checkpoint's weights from, in its order.

    They are `model.safetensors`, or where there is none the shards that the index names; of a
    tensor in several shards the last counts. Other safetensors files that lie beside are not read.

    Raises:
        UserError: there are none (pickles, adapters and distributed checkpoints are refused), or a
            shard is missing.
    """
    refuse_other_kinds(folder)
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if (folder / INDEX).is_file():
        names = _indexed(folder / INDEX)
        missing = [name for name in names if not is_file(folder / name)]
        if missing:
            raise UserError(
                f"{folder}: {len(missing)} of {len(names)} shards are missing, "
                f"the first is {missing[0]}."
            )
        return [folder / name for name in names]
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        raise UserError(
            f"{folder} holds {others[0]}, but neither {WHOLE} nor {INDEX}, which say what the "
            "weights are; copy the missing file, or give a single file that name."
        )
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"{folder} holds a pickle checkpoint ({pickles[0]}), which can run code when loaded; "
            "convert it to safetensors first."
        )
    raise UserError(f"{folder} holds no safetensors file.")


def _indexed(index: Path) -> list[str]:
    """The names of the shards in an index, sorted as transformers sorts them."""
    names = sorted(set(read_json(index, Index).weight_map.values()))
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{index}: {name!r} is no file below its folder; copy it again.")
    return names


def refuse_other_kinds(folder: Path) -> None:
    """Raise a UserError for a folder of which transformers would read more, or other files.

    It puts an adapter that lies beside the weights onto them without a word, and takes distributed
    checkpoints before all others.
    """
    if (folder / ADAPTER).is_file():
        raise UserError(
            f"{folder} holds an adapter ({ADAPTER}); merge it into the weights first "
            "(peft's merge_and_unload), or take its files out of the folder."
        )
    distributed = sorted(p.name for p in folder.iterdir() if _DISTRIBUTED.fullmatch(p.name))
    if distributed:
        raise UserError(
            f"{folder} holds a distributed checkpoint ({distributed[0]}); save it with "
            "save_pretrained first."
        )


def side_files(folder: Path) -> list[Path]:
    """The files beside the weights that transformers may read, sorted by name.

    They are all that end in .json, .txt, .model (or .model.VERSION) and .jinja and are not hidden,
    in the folder itself, and the chat templates in `additional_chat_templates`.
    """
    places = [*folder.iterdir(), *(folder / _TEMPLATES).glob("*.jinja")]
    return sorted(
        path
        for path in places
        if path.is_file()
        and not path.name.startswith(".")
        and (path.suffix in _READ or ".model." in path.name)
    )


def checkpoint_sha256(folder: Path) -> str:
    """Identity of a checkpoint: a hash of the names and contents of all files it is read from.

    Beside the weights that `shards` gives it covers everything that `side_files` gives: the
    configurations of model and generation, the index, an artifact's edits, and the tokenizer with
    its vocabulary and templates. A beginning-of-sequence token that tokenizer_config.json comes to
    ask for changes every number, and so the identity. Files' hashes are remembered.

    Raises:
        UserError: as `shards`.
    """
    content = hashlib.sha256()
    for file in [*side_files(folder), *shards(folder)]:
        content.update(f"{os.path.relpath(file, folder)}\0".encode())
        content.update(file_sha256(file).encode())
    return content.hexdigest()
