"""The run-time experts against direct computations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness.calibration.walk import Calibration
from harness.measure.flops import measure_flops
from harness.model.edits import KeepExperts, LowRank, MergeExperts, SkipExperts
from harness.model.layers.experts import Experts
from harness.model.view import Block, MoEModel
from tests.model.decoding import logits

Tiny = Callable[..., MoEModel]
BLOCK = 2
RENORMALISE = ("mixtral", "qwen3_moe")


def layer_output(model: MoEModel, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.layer(BLOCK).mlp(x)  # type: ignore[no-any-return]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 40, 16, generator=torch.Generator().manual_seed(3))


def full_rank(block: Block, names: list[str]) -> LowRank:
    """Factors that multiply back to the matrices; ranks differ between the two dimensions."""
    factors = {}
    for name in names:
        u, s, v = torch.linalg.svd(block.weight(name).double(), full_matrices=False)
        factors[name] = ((u * s).float(), v.float())
    return LowRank.of(block.index, factors)


def test_full_rank_factors_change_nothing(family: str, tiny: Tiny, ids: Tensor) -> None:
    """Some experts low-rank, some in one matrix only: three banks; attention and shared too."""
    model = tiny(family)
    before = logits(model, ids)
    block = Block(model, BLOCK)
    names = [f"experts.1.{role}" for role in ("gate", "up", "down")]
    names += ["experts.4.down", "attention.o"]
    names += ["shared.up"] if block.matrices("shared") else []
    model.apply(full_rank(block, names))
    experts = model.layer(BLOCK).mlp.experts
    assert isinstance(experts, Experts)
    assert len(experts.banks) == 3
    torch.testing.assert_close(logits(model, ids), before, atol=2e-4, rtol=0)


def test_ranks_without_alignment(tiny: Tiny, x: Tensor) -> None:
    """Rank 5 in fp32 is no multiple of 16 bytes: another path, the same product."""
    model = tiny("mixtral")
    block = Block(model, BLOCK)
    u, v = torch.randn(24, 5), torch.randn(5, 16)
    model.apply(LowRank.of(BLOCK, {f"experts.{e}.gate": (u, v) for e in range(6)}))
    low = layer_output(model, x)
    other = tiny("mixtral")
    for expert in range(6):
        other.layer(BLOCK).mlp.experts.gate_up_proj.data[expert, :24] = u @ v
    torch.testing.assert_close(low, layer_output(other, x), atol=1e-3, rtol=1e-4)
    assert block.matrices("experts")[0].name == "experts.0.gate.v"


def test_masked_experts_leave_the_other_coefficients_alone(
    family: str, tiny: Tiny, x: Tensor
) -> None:
    model, whole = tiny(family), tiny(family)
    kept = (0, 2, 3, 5)
    model.apply(KeepExperts(block=BLOCK, experts=kept, router="mask"))
    gate, stock = model.layer(BLOCK).mlp.gate, whole.layer(BLOCK).mlp.gate
    flat = x.flatten(0, 1)
    soft = stock(flat)[0].float().softmax(-1)
    weights, index = gate(flat)[1:]
    assert set(index.unique().tolist()) <= set(kept)
    plain = soft.gather(1, index)
    if family in RENORMALISE:
        plain = plain / plain.sum(-1, keepdim=True)
    if family == "deepseek_v2":
        plain = plain * 1.7
    torch.testing.assert_close(weights, plain)
    best = soft[:, list(kept)].topk(gate.top_k, dim=-1).values
    torch.testing.assert_close(soft.gather(1, index), best)


def test_a_preserved_router_loses_what_goes_to_removed_experts(
    family: str, tiny: Tiny, x: Tensor
) -> None:
    model, zeroed = tiny(family), tiny(family)
    model.apply(KeepExperts(block=BLOCK, experts=(0, 2, 5), router="preserve"))
    zeroed.layer(BLOCK).mlp.experts.down_proj.data[[1, 3, 4]] = 0
    torch.testing.assert_close(layer_output(model, x), layer_output(zeroed, x))


def test_merged_experts_are_copies_of_their_mean(family: str, tiny: Tiny, x: Tensor) -> None:
    model, copies = tiny(family), tiny(family)
    groups, weights = ((0, 3), (4,), (2, 1, 5)), ((1.0, 3.0), (1.0,), (1.0, 1.0, 2.0))
    model.apply(MergeExperts(block=BLOCK, groups=groups, weights=weights))
    fused = copies.layer(BLOCK).mlp.experts
    for name in ("gate_up_proj", "down_proj"):
        tensor = getattr(fused, name).data
        for group, share in zip(groups, weights, strict=True):
            part = torch.tensor(share) / sum(share)
            mean = (tensor[list(group)] * part[:, None, None]).sum(0)
            tensor[list(group)] = mean
    torch.testing.assert_close(layer_output(model, x), layer_output(copies, x))
    assert model.blocks[BLOCK].experts == (0, 2, 4)
    assert model.blocks[BLOCK].rows == (0, 2, 2, 0, 4, 2)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 1.0])
def test_skipped_experts(beta: float, family: str, tiny: Tiny, x: Tensor) -> None:
    """On tokens outside any calibration, against coefficients changed by hand."""
    model, whole = tiny(family), tiny(family)
    model.apply(SkipExperts(block=BLOCK, beta=beta))
    mlp = whole.layer(BLOCK).mlp
    weights, index = mlp.gate(x.flatten(0, 1))[1:]
    kept = weights >= beta * weights.max(-1, keepdim=True).values
    changed = weights * kept
    if family in RENORMALISE:
        changed = changed / changed.sum(-1, keepdim=True)
    mlp.gate.forward = lambda hidden: (None, changed, index)
    torch.testing.assert_close(layer_output(model, x), layer_output(whole, x))
    share = float(kept.float().mean())
    assert share == 1.0 if beta == 0 else share < 1.0


def test_skipped_experts_are_not_computed(tiny: Tiny, x: Tensor) -> None:
    model = tiny("mixtral")
    model.apply(SkipExperts(block=BLOCK, beta=0.8))
    experts = model.layer(BLOCK).mlp.experts
    rows: list[int] = []
    experts.banks[0].register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    layer_output(model, x)
    index, weights = model.layer(BLOCK).mlp.gate(x.flatten(0, 1))[2:0:-1]
    assert rows == [int(experts.choose(index, weights)[0].sum())]
    assert rows[0] < 160


def test_counted_flops_equal_the_formula(family: str, tiny: Tiny) -> None:
    model = tiny(family)
    base = measure_flops(model, 32)
    block = Block(model, BLOCK)
    names = ["experts.0.up", "experts.4.down", "attention.o"]
    factors = {
        n: (torch.zeros(block.weight(n).shape[0], 2), torch.zeros(2, block.weight(n).shape[1]))
        for n in names
    }
    model.apply(LowRank.of(BLOCK, factors))
    low = measure_flops(model, 32)
    assert low.macs == low.analytic_macs < base.macs


def test_what_a_seen_batch_says_is_what_is_computed(
    family: str, tiny: Tiny, calibration: Callable[..., Calibration]
) -> None:
    """Routed sums rebuilt from index, weights and f_e, through every kind of edit."""
    model = tiny(family)
    groups = ((0, 1), (2,), (3,), (4,), (5,))
    model.apply(
        MergeExperts(
            block=BLOCK, groups=groups, weights=((1.0, 1.0), (1.0,), (1.0,), (1.0,), (1.0,))
        )
    )
    model.apply(KeepExperts(block=BLOCK, experts=(0, 2, 3, 5), router="preserve"))
    model.apply(full_rank(Block(model, BLOCK), ["experts.3.gate", "experts.3.down"]))
    model.apply(SkipExperts(block=BLOCK, beta=0.7))
    from harness.calibration.statistic import Statistic

    class Check(Statistic):
        cached = False

        def start(self, block: object) -> None:
            self.worst = 0.0

        def update(self, seen: object) -> None:
            routed = torch.zeros_like(seen.x)  # type: ignore[attr-defined]
            for expert in seen.block.experts:  # type: ignore[attr-defined]
                share = (seen.weights * (seen.index == expert)).sum(-1, keepdim=True)  # type: ignore[attr-defined]
                routed += share * seen.expert(expert, seen.x)  # type: ignore[attr-defined]
            mlp = seen.block.layer.mlp  # type: ignore[attr-defined]
            gate = mlp.gate(seen.x)  # type: ignore[attr-defined]
            ran = mlp.experts(seen.x, gate[2], gate[1])  # type: ignore[attr-defined]
            self.worst = max(self.worst, float((ran - routed).abs().max()))

    with torch.no_grad():
        for block in calibration(padded=True).walk(model):
            if block.index == BLOCK:
                assert block.collect(Check()).worst < 1e-4
                assert not block.plain_routing
