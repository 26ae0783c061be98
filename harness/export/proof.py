"""An export read back and compared with the model, weight by weight.

A perplexity would not do: a reader that finds no experts draws random ones, warns, and on a small
model perplexity hardly moves.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.disk.reading import read_object
from harness.errors import UserError, first_line
from harness.export import compressed_tensors
from harness.export.decoded import Decoded
from harness.export.formats import FORMATS
from harness.export.linears import linears
from harness.export.tensor_names import rest
from harness.model.checkpoint import weight_files
from harness.model.families import deepseek
from harness.model.files.identity import read_config
from harness.model.files.skeleton import build_on_meta
from harness.model.files.tensors import LAYER, frame_state, state
from harness.model.stored import Files
from harness.model.view import Block, MoEModel


@dataclass(frozen=True)
class Proof:
    """Counts of what was compared, all of it equal to the bit."""

    reader: str
    """The library that read the export."""
    experts: int
    """Matrices of routed experts."""
    others: int
    """All other tensors."""
    quantized: int
    """Layers that were stored quantized."""


def prove(model: MoEModel, folder: Path, to: str) -> Proof:
    """Read an export back and compare every tensor.

    transformers reads what it can: not what is streamed, since there is no room for a second model;
    of quantized weights only compressed-tensors, if that is installed.

    Raises:
        UserError: a tensor is missing, left over or different; the first is named.
    """
    files = _files(folder, to)
    quantized = files.quantized if isinstance(files, Decoded) else 0
    options = None if model.streamed else _options(model, to)
    if options is not None:
        reloaded = _by_transformers(folder, options)
        reader = f"transformers {version('transformers')}"
    else:
        reloaded, reader = _streamed(folder, files), "moebench's loader"
    if to in FORMATS:
        reader = FORMATS[to].reader() if options is None else f"{reader} and {FORMATS[to].reader()}"
    experts = others = 0
    for name, mine, theirs in _pairs(model, reloaded):
        if mine.dtype != theirs.dtype or not torch.equal(mine, theirs):
            raise _different(name, mine, theirs, reader)
        expert = ", experts." in name
        experts, others = experts + expert, others + (not expert)
    packed = sum(linear.scheme is not None for linear in linears(model))
    if to in FORMATS and packed != quantized:
        raise UserError(f"the export has {quantized} quantized layers and the artifact {packed}.")
    return Proof(reader, experts, others, quantized)


def _files(folder: Path, to: str) -> Files:
    files = weight_files(folder)
    if to not in FORMATS:
        return Files(files)
    return Decoded(files, FORMATS[to], read_object(folder / "config.json")["quantization_config"])


def _options(model: MoEModel, to: str) -> dict[str, Any] | None:
    """With which transformers reads the format whole; None where it does not."""
    if to == "hf":
        return {}
    if to != "compressed-tensors" or not compressed_tensors.installed():
        return None
    from transformers import CompressedTensorsConfig

    layers = [linear for linear in linears(model) if linear.scheme is not None]
    schemes = {linear.scheme for linear in layers}
    routed = any(linear.matrix.part == "experts" for linear in layers)
    # Of experts it forgets the zeros and stops; of several schemes it takes one for all the rest.
    asymmetric = any(not scheme.symmetric for scheme in schemes if scheme is not None)
    known = "dequantize" in signature(CompressedTensorsConfig).parameters
    if len(schemes) > 1 or (routed and asymmetric) or not known:
        return None
    return {"quantization_config": CompressedTensorsConfig(dequantize=True)}


def _by_transformers(folder: Path, options: Mapping[str, Any]) -> MoEModel:
    from transformers import AutoModelForCausalLM, PreTrainedModel
    from transformers.utils import logging

    deepseek.register()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    lm: PreTrainedModel
    report: dict[str, Any]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the options go before what config.json says
            lm, report = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
                folder, dtype="auto", trust_remote_code=False, output_loading_info=True, **options
            )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"transformers cannot read the export: {first_line(error)}.") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        for key in sorted(map(str, report.get(kind) or ())):
            raise UserError(f"transformers finds {kind.replace('_', ' ')} in the export: {key}.")
    return MoEModel(lm, ref=str(folder), sha256="proof")


def _streamed(folder: Path, files: Files) -> MoEModel:
    """The export as a model whose blocks are read when they are compared."""
    config: Any = read_config(str(folder), quantized=True)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    lm = build_on_meta(config, experts="eager", attention="eager")
    model = MoEModel(lm, ref=str(folder), sha256="proof")
    expected = files.expected(state(model)).keys()
    for names, problem in (
        (sorted(expected - files.shapes().keys()), "missing"),
        (sorted(files.shapes().keys() - expected), "left over"),
    ):
        if names:
            raise UserError(f"in the export {len(names)} tensors are {problem}: {names[0]}.")
    model.frame.load_state_dict(files.read(frame_state(model)), assign=True, strict=False)
    model.frame.tie_weights()
    model.stream(files, LAYER)
    return model


def _pairs(model: MoEModel, reloaded: MoEModel) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Every tensor of the model and what was read in its place, named for the reader."""
    frame = frame_state(reloaded)
    for name, tensor in frame_state(model).items():
        yield name, tensor, frame[name]
    for position, (block, other) in enumerate(zip(model.blocks, reloaded.blocks, strict=True)):
        for matrix in block.matrices():
            name = f"block {block.index}, {matrix.name}"
            yield name, block.weight(matrix), other.weight(_renumbered(block, matrix.name))
        theirs = rest(other, position)
        for name, tensor in rest(block, position).items():
            yield name, tensor, theirs[name]


def _renumbered(block: Block, name: str) -> str:
    """A matrix's name where experts have the places of their router rows for numbers."""
    if not name.startswith("experts."):
        return name
    part, number, role = name.split(".")
    return f"{part}.{block.rows.index(int(number))}.{role}"


def _different(name: str, mine: Tensor, theirs: Tensor, reader: str) -> UserError:
    if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        how = f"is {theirs.dtype} {tuple(theirs.shape)}, not {mine.dtype} {tuple(mine.shape)}"
    else:
        how = f"differs by up to {float((mine.float() - theirs.float()).abs().max()):.3g}"
    return UserError(f"{name} of the export, as {reader} reads it, {how}; nothing was kept.")
