"""Checkpoint folders as transformers lays them out, written shard by shard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from harness.disk import scratch
from harness.errors import UserError, first_line
from harness.export.tensor_names import module_name, rest
from harness.model.checkpoint import INDEX
from harness.model.files.beside import write_beside
from harness.model.files.identity import write_config
from harness.model.files.tensors import frame_state
from harness.model.quantized.scheme import Quantized
from harness.model.shell import compact
from harness.model.view import Block, MoEModel

Tensors = dict[str, Tensor]
Pack = Callable[[Quantized], Tensors]
"""A quantized matrix as a format's tensors, by the ends of their names."""
SHARD = 4 * 10**9
"""Bytes after which a shard is closed; of a streamed model, every block is one."""


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill; it takes its name only when all has gone well, else nothing is left.

    Raises:
        UserError: the folder holds something, or cannot be written (no space left).
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; name a new folder.")
    try:
        with scratch.folder(folder.parent, folder.name) as place:
            whole = place / folder.name
            whole.mkdir()
            yield whole
            if folder.exists():
                folder.rmdir()
            whole.rename(folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"the export {folder} cannot be written: {first_line(error)}.") from error


def write_checkpoint(model: MoEModel, folder: Path, config: Any, pack: Pack | None = None) -> None:
    """Configuration, tensors under published names, and what came with the model beside them.

    Args:
        model: What to write.
        folder: Empty.
        config: Of the checkpoint.
        pack: How quantized matrices are stored; without it they are multiplied out.
    """
    write_config(config, folder)
    _write_shards(_parts(model, pack), folder, limit=0 if model.streamed else SHARD)
    write_beside(model, folder)


def _parts(model: MoEModel, pack: Pack | None) -> Iterator[Tensors]:
    yield frame_state(model)
    for position, block in enumerate(model.blocks):
        yield _block(block, position, pack)


def _block(block: Block, position: int, pack: Pack | None) -> Tensors:
    tensors = rest(block, position)
    for matrix in block.matrices():
        path = module_name(block, position, matrix.name)
        quantized = block.quantized(matrix.name) if pack is not None else None
        if pack is None or quantized is None:
            tensors[f"{path}.weight"] = block.weight(matrix)
        else:
            tensors |= {f"{path}.{end}": tensor for end, tensor in pack(quantized).items()}
    return {name: compact(tensor) for name, tensor in tensors.items()}


def _write_shards(parts: Iterator[Tensors], folder: Path, limit: int) -> None:
    written: list[tuple[Path, Mapping[str, int]]] = []
    shard: Tensors = {}
    size = 0
    for part in parts:
        shard |= part
        size = sum(tensor.nbytes for tensor in shard.values())
        if size > limit:
            written.append(_write_shard(shard, folder, len(written)))
            shard = {}
    if shard:
        written.append(_write_shard(shard, folder, len(written)))
    _name_shards(written, folder)


def _write_shard(shard: Tensors, folder: Path, number: int) -> tuple[Path, Mapping[str, int]]:
    path = folder / f"part-{number}.safetensors"
    save_file(shard, path, metadata={"format": "pt"})
    return path, {name: tensor.nbytes for name, tensor in shard.items()}


def _name_shards(written: list[tuple[Path, Mapping[str, int]]], folder: Path) -> None:
    """Names that say how many shards there are, and the index; one shard has none."""
    if len(written) == 1:
        written[0][0].rename(folder / "model.safetensors")
        return
    where: dict[str, str] = {}
    for number, (path, sizes) in enumerate(written, start=1):
        name = f"model-{number:05}-of-{len(written):05}.safetensors"
        path.rename(folder / name)
        where |= dict.fromkeys(sizes, name)
    total = sum(sum(sizes.values()) for _, sizes in written)
    text = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / INDEX).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
