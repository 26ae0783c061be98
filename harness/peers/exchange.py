"""The exchange with a peer: a folder each way, checked block by block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.calibration.walk import Calibration
from harness.disk.reading import BadFile, read_object
from harness.errors import Refused, UserError
from harness.export.plain import write_plain
from harness.model.editing.matrices import Part
from harness.model.files.tensors import LAYER
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.view import Block, MoEModel
from harness.peers.weights import module_path, paths
from harness.peers.workers.peer_job import digest

PARTS = ("codes", "scales", "zeros")


def send(
    folder: Path,
    model: MoEModel,
    calibration: Calibration,
    parts: Sequence[Part],
    asked: Mapping[str, Any],
) -> None:
    """Write the checkpoint, the tokens and what is asked into an empty folder.

    Args:
        folder: Where to.
        model: What is quantized.
        calibration: Its tokens go over as they are.
        parts: Of the blocks, to quantize.
        asked: Algorithm, scheme and the peer's own options.

    Raises:
        Refused: a plain checkpoint cannot hold the model.
    """
    write_plain(model, folder / "model")
    tokens = calibration.tokens
    tensors = {"input_ids": tokens.input_ids.contiguous()}
    if tokens.attention_mask is not None:
        tensors["attention_mask"] = tokens.attention_mask.contiguous()
    save_file(tensors, folder / "calibration.safetensors")
    modules: list[str] = []
    left: list[str] = []
    weights: dict[str, str] = {}
    for place, block in enumerate(model.blocks):
        wanted = {matrix.name for matrix in block.matrices(*parts)}
        for name, path in paths(block).items():
            full = f"{LAYER}{place}.{path}"
            weights[f"{full}.weight"] = digest(block.weight(name))
            if not name.endswith("_norm"):
                (modules if name in wanted else left).append(full)
    job = {
        **asked,
        "modules": modules,
        "left": left,
        "weights": weights,
        "dtype": str(model.dtype).removeprefix("torch."),
        "batch_size": calibration.batch_size,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")


class Answer:
    """A peer's result for one block, under the block's own names.

    Attributes:
        quantized: By matrix.
        changed: Other weights, by name, with their new values.
    """

    def __init__(self, quantized: dict[str, Quantized], changed: dict[str, Tensor]) -> None:
        self.quantized = quantized
        self.changed = changed


def receive(folder: Path, place: int, block: Block, names: Sequence[str], scheme: Scheme) -> Answer:
    """Read a block's answer.

    Args:
        folder: Of the job.
        place: Of the block in the checkpoint.
        block: As it was.
        names: The matrices that had to be quantized.
        scheme: Theirs.

    Raises:
        Refused: something was changed that no edit can set.
        UserError: a matrix is missing or does not fit.
    """
    tensors = _tensors(folder / f"block-{place}.safetensors")
    where = f"block {block.index}"
    quantized = {
        name: _quantized(tensors, block, name, scheme, f"{where}: {name}") for name in names
    }
    known = {f"{path}.weight": name for name, path in paths(block).items() if name not in names}
    changed = {known[path]: tensors.pop(path) for path in sorted(tensors) if path in known}
    if tensors:
        raise Refused(
            f"{where}: the peer has changed {min(tensors)}, which no edit can set; set targets "
            "that do not read it."
        )
    return Answer(quantized, changed)


def report(folder: Path) -> dict[str, Any]:
    """The worker's account of itself.

    Raises:
        UserError: there is none, or it is no JSON object.
    """
    try:
        return read_object(folder / "report.json")
    except BadFile as error:
        why = f"the peer's worker ended without a report ({error.why})"
        raise BadFile(error.where, why) from error


def blank(block: Block, name: str, scheme: Scheme) -> Quantized:
    """A quantized matrix without values, for a dry run."""
    weight = block.weight(name)
    return Quantized.blank(scheme, weight.shape, weight)


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        return {}
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _quantized(
    tensors: dict[str, Tensor], block: Block, name: str, scheme: Scheme, where: str
) -> Quantized:
    path, weight = module_path(block, name), block.weight(name)
    parts = {part: tensors.pop(f"{path}.{part}", None) for part in PARTS}
    codes, scales, zeros = (parts[part] for part in PARTS)
    if codes is None or scales is None or (zeros is None) != scheme.symmetric:
        raise UserError(f"{where}: the peer has not quantized it.")
    fits = codes.shape == weight.shape and codes.dtype == torch.uint8
    fits &= scales.shape == (len(weight), scheme.groups(weight.shape[1]))
    if not fits or int(codes.max()) >= scheme.levels or not bool(scales.isfinite().all()):
        raise UserError(f"{where}: the peer's codes and scales do not fit the matrix.")
    return Quantized.of(codes, scales, zeros, scheme).to(weight)


def layers(model: MoEModel, parts: Sequence[Part]) -> Iterator[tuple[int, Block, list[str]]]:
    """Place in the checkpoint, block and names of its matrices, where a block has any."""
    for place, block in enumerate(model.blocks):
        names = [matrix.name for matrix in block.matrices(*parts)]
        if names:
            yield place, block, names
