"""Is an artifact what it claims to be? Checked on the reloaded model and on the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from harness.edits import DropBlock, DropMoE, KeepExperts, SetWeights
from harness.errors import UserError
from harness.model.artifact import state
from harness.model.checkpoint import weight_files
from harness.model.source import build_on_meta
from harness.model.surgery import Nothing
from harness.model.view import Block, MoEModel


class AuditError(UserError):
    """An artifact that is not what its edits say."""


def audit(model: MoEModel, folder: Path) -> dict[str, Any]:
    """Compare the edits' claims with the reloaded model and with what is on disk.

    Returns:
        Facts for the record: blocks and experts left, parameters now and in the base model, bytes
        on disk, and the share of zeros in the matrices that edits have set.

    Raises:
        AuditError: the first claim that does not hold.
    """
    for edit in model.edits:
        if isinstance(edit, DropBlock):
            _claim(edit.block not in model.numbers, f"block {edit.block} is still there", folder)
            continue
        if edit.block not in model.numbers:
            continue
        block = Block(model, edit.block)
        dropped = isinstance(block.layer.mlp, Nothing)
        if isinstance(edit, DropMoE):
            _claim(dropped, f"block {edit.block} still has its MoE layer", folder)
        elif isinstance(edit, KeepExperts) and not dropped:
            _counts(block, edit, folder)
    elements = _elements_on_disk(folder)
    now = {name: tensor.numel() for name, tensor in state(model).items()}
    _claim(elements == now, "the files hold other tensors than the loaded model", folder)
    base = build_on_meta(model.config, experts="eager", attention="eager")
    return {
        **model.describe(),
        "parameters": sum(now.values()),
        "base_parameters": sum(parameter.numel() for parameter in base.parameters()),
        "bytes": sum(file.stat().st_size for file in weight_files(folder)),
        "zero_share": _zero_share(model),
    }


def _counts(block: Block, edit: KeepExperts, folder: Path) -> None:
    """Router, fused tensors and counters agree, and nothing beyond the kept experts is left."""
    mlp: Any = block.layer.mlp
    count = len(block.experts)
    where = f"block {block.index}"
    _claim(set(block.experts) <= set(edit.experts), f"{where} has experts that were cut", folder)
    held = (
        mlp.gate.weight.shape[0],
        mlp.experts.gate_up_proj.shape[0],
        mlp.experts.down_proj.shape[0],
        mlp.experts.num_experts,
    )
    _claim(held == (count,) * 4, f"{where} should have {count} experts and has {held}", folder)
    _claim(1 <= block.top_k <= count, f"{where} chooses {block.top_k} of {count} experts", folder)


def _zero_share(model: MoEModel) -> float | None:
    """Zeros among the weights that SetWeights edits name and that are still there."""
    zeros = total = 0
    named = {
        (edit.block, name)
        for edit in model.edits
        if isinstance(edit, SetWeights) and edit.block in model.numbers
        for name in edit.matrices
    }
    for index in model.numbers:
        block = Block(model, index)
        for matrix in block.matrices():
            if (index, matrix.name) in named:
                weight = block.weight(matrix)
                zeros += int((weight == 0).sum())
                total += weight.numel()
    return zeros / total if total else None


def _elements_on_disk(folder: Path) -> dict[str, int]:
    elements: dict[str, int] = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                count = 1
                for size in tensors.get_slice(name).get_shape():
                    count *= size
                elements[name] = count
    return elements


def _claim(holds: bool, problem: str, folder: Path) -> None:
    if not holds:
        raise AuditError(f"{folder} is not what its edits say: {problem}.")
