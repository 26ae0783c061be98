"""Experts of sizes that the grouped product does not take: right numbers, in every family."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.measure.flops import measure_flops
from harness.model.edits import KeepExperts, LowRank, SetWeights
from harness.model.families.family import FAMILIES
from harness.model.files.artifact import load, save
from harness.model.files.opening import open_meta, open_model
from harness.model.view import MoEModel
from tests.models import draw_weights, from_config, tiny_config

SPARSE = sorted(name for name, family in FAMILIES.items() if not family.dense)


def odd(folder: Path, name: str, dtype: torch.dtype, *, hidden: int = 16, inner: int = 21) -> Path:
    """A checkpoint whose experts have odd sizes, and shared ones as well."""
    config: Any = tiny_config(name)
    for field in ("moe_intermediate_size", "intermediate_size"):
        if hasattr(config, field):
            setattr(config, field, inner)
    config.hidden_size = hidden
    if hasattr(config, "head_dim") and name != "deepseek_v2":
        config.head_dim = 8
    elif hidden % 4:  # heads have even sizes
        config.num_attention_heads = config.num_key_value_heads = 1
    lm = from_config(config, dtype=torch.float32)
    draw_weights(lm, 0)
    lm.to(dtype).save_pretrained(folder)  # type: ignore[arg-type]
    return folder


def logits(model: MoEModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        out: Any = model.lm(ids)
    result: Tensor = out.logits
    return result.double()


def expert_by_expert(model: MoEModel, index: int, hidden: Tensor) -> Tensor:
    """The routed experts' sum of an MoE layer, one token and one expert at a time."""
    block = model.blocks[index]
    _, weights, chosen = block.layer.mlp.gate(hidden)
    out = torch.zeros(hidden.shape, dtype=torch.float64)
    for token, (some, numbers) in enumerate(zip(weights, chosen, strict=True)):
        for weight, number in zip(some, numbers, strict=True):
            gate, up, down = (
                block.weight(f"experts.{block.rows[int(number)]}.{role}").double()
                for role in ("gate", "up", "down")
            )
            x = hidden[token].double()
            inner = torch.nn.functional.silu(gate @ x) * (up @ x)
            out[token] += weight.double() * (down @ inner)
    return out


@pytest.mark.parametrize(
    ("dtype", "hidden", "inner", "close"),
    [
        (torch.float32, 16, 21, 1e-4),
        (torch.float32, 18, 12, 1e-4),
        (torch.bfloat16, 16, 12, 0.05),
        (torch.bfloat16, 20, 16, 0.05),
    ],
)
@pytest.mark.parametrize("name", SPARSE)
def test_experts_of_odd_sizes_give_the_sum_of_their_products(
    name: str,
    dtype: torch.dtype,
    hidden: int,
    inner: int,
    close: float,
    ids: Tensor,
    tmp_path: Path,
) -> None:
    folder = odd(tmp_path / "odd", name, dtype, hidden=hidden, inner=inner)
    model = open_model(str(folder), dtype=dtype)
    index = model.moe_blocks()[-1].index
    states = torch.randn(9, hidden, generator=torch.Generator().manual_seed(1)).to(dtype)
    mlp = model.blocks[index].layer.mlp
    with torch.no_grad():
        _, weights, chosen = mlp.gate(states)
        ours = mlp.experts(states, chosen, weights).double()
    wanted = expert_by_expert(model, index, states)
    torch.testing.assert_close(ours, wanted, atol=close * float(wanted.abs().max()), rtol=0)
    whole = logits(model, ids)
    assert bool(whole.isfinite().all())
    streamed = open_model(str(folder), dtype=dtype, streaming=True)
    with torch.no_grad():
        again = streamed.layer(index).mlp.experts(states, chosen, weights).double()
    assert torch.equal(again, ours)
    open_meta(str(folder))


@pytest.mark.parametrize("name", SPARSE)
def test_edits_of_models_of_odd_sizes_run(name: str, ids: Tensor, tmp_path: Path) -> None:
    model = open_model(str(odd(tmp_path / "odd", name, torch.float32)))
    before = logits(model, ids)
    block = model.moe_blocks()[-1]
    same = {m.name: block.weight(m).clone() for m in block.matrices("experts")[:1]}
    model.apply(SetWeights.of(block.index, same))
    assert torch.equal(logits(model, ids), before)
    model.apply(KeepExperts(block=block.index, experts=block.experts[:4]))
    factors = {}
    for rank, matrix in zip(itertools.cycle((5, 3)), block.matrices("experts")):
        u, s, v = torch.linalg.svd(block.weight(matrix), full_matrices=False)
        factors[matrix.name] = (u[:, :rank] * s[:rank], v[:rank])
    model.apply(LowRank.of(block.index, factors))
    now = logits(model, ids)
    assert bool(now.isfinite().all())
    save(model, tmp_path / "artifact")
    reloaded = load(tmp_path / "artifact")
    assert torch.equal(logits(reloaded, ids), now)
    assert measure_flops(reloaded, 16).macs > 0


@pytest.mark.parametrize("name", SPARSE)
def test_ordinary_sizes_run_as_they_did(name: str, tmp_path: Path) -> None:
    lm = from_config(tiny_config(name), dtype=torch.float32)
    lm.save_pretrained(tmp_path)
    for model in (open_model(str(tmp_path)), open_model(str(tmp_path), streaming=True)):
        assert model.config._experts_implementation == "grouped_mm"
    asked = open_model(str(tmp_path), experts="eager")
    assert asked.config._experts_implementation == "eager"
