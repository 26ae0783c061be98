"""Is an artifact what it claims to be? Checked on the reloaded model and on the files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from safetensors import safe_open

from harness.errors import UserError
from harness.model.checkpoint import weight_files
from harness.model.editing.surgery import Nothing
from harness.model.edits import (
    DropBlock,
    DropMoE,
    Edit,
    KeepExperts,
    LowRank,
    MergeExperts,
    QuantizeWeights,
    SetWeights,
    SkipExperts,
)
from harness.model.files.skeleton import build_on_meta
from harness.model.files.tensors import state
from harness.model.layers.bank import Bank
from harness.model.layers.experts import Experts
from harness.model.layers.packed import weights
from harness.model.view import Block, MoEModel


class AuditError(UserError):
    """An artifact that is not what its edits say."""


def audit(model: MoEModel, folder: Path | None) -> dict[str, Any]:
    """Compare the edits' claims with the reloaded model and with what is on disk.

    Args:
        model: With all edits applied.
        folder: Its artifact; None for random weights, which are in no file: their claims are only
            compared with the modules, and what is about values or files is left out.

    Returns:
        Facts for the record: blocks and experts left, parameters now and in the base model, bytes
        on disk, and the share of zeros in the matrices that edits have set.

    Raises:
        AuditError: the first claim that does not hold.
    """
    for edit in model.edits:
        _check(model, edit, folder or Path(model.ref))
    for index in model.numbers:
        if Block(model, index).experts:
            _counts(Block(model, index), folder or Path(model.ref))
    base = build_on_meta(model.config, experts="eager", attention="eager")
    facts = {
        **model.describe(),
        "parameters": weights(model.lm),
        "base_parameters": sum(parameter.numel() for parameter in base.parameters()),
        "quantized": quantized_shares(model),
    }
    return facts if folder is None else {**facts, **_on_disk(model, folder)}


def _on_disk(model: MoEModel, folder: Path) -> dict[str, Any]:
    """Check claims about files and values, once the files hold what the model does."""
    elements = _elements_on_disk(folder)
    now = {name: tensor.numel() for name, tensor in state(model).items()}
    _claim(elements == now, "the files hold other tensors than the loaded model", folder)
    return {
        "bytes": sum(file.stat().st_size for file in weight_files(folder)),
        "zero_share": _zero_share(model),
    }


def quantized_shares(model: MoEModel) -> dict[str, float]:
    """The share of packed matrices in each part of the blocks that has any."""
    total: Counter[str] = Counter()
    packed: Counter[str] = Counter()
    for block in model.blocks:
        for matrix in block.matrices():
            total[matrix.part] += 1
            packed[matrix.part] += block.packed_scheme(matrix) is not None
    return {part: count / total[part] for part, count in packed.items() if count}


def _check(model: MoEModel, edit: Edit, folder: Path) -> None:
    """Check the claims of one edit, as far as later edits have not removed their subject."""
    if isinstance(edit, DropBlock):
        _claim(edit.block not in model.numbers, f"block {edit.block} is still there", folder)
        return
    if edit.block not in model.numbers:
        return
    block, where = Block(model, edit.block), f"block {edit.block}"
    dropped = isinstance(block.layer.mlp, Nothing)
    if isinstance(edit, DropMoE):
        _claim(dropped, f"{where} still has its MoE layer", folder)
    elif isinstance(edit, KeepExperts):
        extra = set(block.experts) - set(edit.experts)
        _claim(not extra, f"{where} has experts that were cut", folder)
    elif isinstance(edit, MergeExperts):
        extra = set(block.experts) - {group[0] for group in edit.groups}
        _claim(not extra, f"{where} has experts that were merged", folder)
    elif isinstance(edit, SkipExperts) and not dropped:
        _claim(block.beta is not None, f"{where} skips no expert", folder)
    elif isinstance(edit, LowRank):
        _ranks(block, edit, folder)
    elif isinstance(edit, QuantizeWeights) and not edit.simulated:
        _packed(block, edit, folder)


def _ranks(block: Block, edit: LowRank, folder: Path) -> None:
    for name, rank in edit.ranks.items():
        whole, factor = block.has(name), f"{name}.u"
        _claim(not whole, f"block {block.index}: {name} is not low-rank", folder)
        if block.has(factor):
            actual = block.weight(factor).shape[1]
            _claim(actual == rank, f"block {block.index}: {name} has rank {actual}", folder)


def _packed(block: Block, edit: QuantizeWeights, folder: Path) -> None:
    for name in edit.matrices:
        if block.has(name):
            scheme = block.packed_scheme(name)
            where = f"block {block.index}: {name}"
            _claim(scheme == edit.scheme, f"{where} is {scheme or 'not quantized'}", folder)


def _counts(block: Block, folder: Path) -> None:
    """Router, stacked tensors and counters agree, and nothing beyond the experts left is there."""
    mlp: Any = block.layer.mlp
    count, rows = len(block.experts), len(block.rows)
    where = f"block {block.index}"
    experts = mlp.experts
    if isinstance(experts, Experts):
        banks = [bank for bank in experts.banks if isinstance(bank, Bank)]
        held = sum(bank.size for bank in banks)
        counts = {tensor.shape[0] for bank in banks for tensor in bank.state_dict().values()}
        _claim(counts == {bank.size for bank in banks}, f"{where} has unequal experts", folder)
    else:
        held = experts.gate_up_proj.shape[0]
        _claim(held == experts.down_proj.shape[0], f"{where} has unequal experts", folder)
    _claim(held == count, f"{where} should have {count} experts and has {held}", folder)
    router = (mlp.gate.weight.shape[0], mlp.gate.num_experts)
    _claim(router == (rows, rows), f"{where} should have {rows} router rows, not {router}", folder)
    _claim(1 <= block.top_k <= rows, f"{where} chooses {block.top_k} of {rows} rows", folder)


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
