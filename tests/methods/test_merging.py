"""Merged models against models that hold copies of the merged weights, and the groups."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.calibration.statistics.outputs import MeanOutputs
from harness.calibration.statistics.routing import RouterSimilarity, TokenCount
from harness.calibration.walk import Calibration
from harness.errors import Refused
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.editing.surgery import Routing
from harness.model.edits import Edit, KeepExperts, MergeExperts, SetWeights, SkipExperts
from harness.model.view import MoEModel
from methods.experts.hc_smoe import clusters
from methods.experts.m_smoe import dominant

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]
IDS = torch.arange(40).reshape(2, 20)
NAMES = ["m-smoe", "hc-smoe"]


def merged(model: MoEModel, calibration: Calibration, name: str, **options: Any) -> MoEModel:
    compress(model, [BoundStep(build(name, options), calibration)])
    return model


def logits(lm: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return lm(IDS).logits  # type: ignore[no-any-return]


def with_copies(lm: PreTrainedModel, edits: tuple[MergeExperts, ...]) -> PreTrainedModel:
    """Every member of a group gets the group's mean: what the authors' code saves."""
    for edit in edits:
        experts = lm.model.layers[edit.block].mlp.experts
        for group, weights in zip(edit.groups, edit.weights, strict=True):
            even = [1.0] * len(group)
            parts = torch.tensor(weights if sum(weights) else even)
            parts = parts / parts.sum()
            for name in ("gate_up_proj", "down_proj"):
                stacked = getattr(experts, name).data
                stacked[list(group)] = torch.einsum("e,eij->ij", parts, stacked[list(group)])
    return lm


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keep", [4, 2, 1])
def test_as_a_stock_model_with_copies(
    name: str,
    keep: int,
    family: str,
    tiny: Tiny,
    calibration: Calibrate,
    random_lm: Callable[..., PreTrainedModel],
) -> None:
    model = merged(tiny(family), calibration(), name, keep=keep)
    edits = tuple(edit for edit in model.edits if isinstance(edit, MergeExperts))
    assert edits
    assert sum(len(b.experts) for b in model.moe_blocks()) == keep * len(model.moe_blocks())
    wanted = logits(with_copies(random_lm(family), edits))
    torch.testing.assert_close(logits(model.lm), wanted, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(wanted, logits(random_lm(family)), atol=1e-2)
    weights = sum(p.numel() for p in model.lm.parameters())
    assert weights < sum(p.numel() for p in random_lm(family).parameters())


def test_hc_smoe_merges_the_closest_pair_of_clusters(tiny: Tiny, calibration: Calibrate) -> None:
    """Average linkage, step by step, on the mean outputs of all tokens."""
    model = tiny("mixtral")
    with torch.no_grad():
        for block in calibration(padded=True).walk(model):
            outputs = block.collect(MeanOutputs(), tokens := TokenCount())
            mean = outputs.mean()
            groups = [{expert} for expert in block.experts]
            for count in range(5, 0, -1):
                pairs = itertools.combinations(groups, 2)
                a, b = min(pairs, key=lambda pair: _average_distance(mean, *pair))
                groups = [group for group in groups if group not in (a, b)] + [a | b]
                merged = clusters(mean, tokens, count)
                assert {frozenset(g) for g in merged} == {frozenset(g) for g in groups}
                for group in merged:
                    assert tokens.count[group[0]] == tokens.count[list(group)].max()


def _average_distance(mean: Tensor, a: set[int], b: set[int]) -> float:
    pairs = [(i, j) for i in a for j in b]
    return sum(float((mean[i] - mean[j]).norm()) for i, j in pairs) / len(pairs)


def test_mean_outputs_are_over_all_valid_tokens(tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("qwen2_moe")
    with torch.no_grad():
        block = next(iter(calibration(padded=True).walk(model)))
        mean = block.collect(MeanOutputs()).mean()
        mlp, norm = model.layer(0).mlp, model.layer(0).post_attention_layernorm
        seen = []
        handle = norm.register_forward_hook(lambda _, __, out: seen.append(out))
        for batch in calibration(padded=True).batches():
            model.lm(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            seen[-1] = seen[-1][batch["attention_mask"]]
        handle.remove()
        x = torch.cat(seen)
        for expert in range(6):
            gate, up = (x @ mlp.experts.gate_up_proj[expert].T).chunk(2, -1)
            y = (torch.nn.functional.silu(gate) * up) @ mlp.experts.down_proj[expert].T
            torch.testing.assert_close(mean[expert].float(), y.mean(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("router", ["rows", "mask", "preserve"])
def test_router_similarity_is_the_cosine_of_the_logits(
    router: Routing, tiny: Tiny, calibration: Calibrate
) -> None:
    model = tiny("mixtral")
    numbers = [0, 2, 5]
    model.apply(KeepExperts(block=0, experts=tuple(numbers), router=router))
    kept: list[Tensor] = []
    with torch.no_grad():
        block = next(iter(calibration(padded=True).walk(model)))
        hook = model.layer(0).mlp.gate.register_forward_hook(lambda _, __, out: kept.append(out[0]))
        cosines = block.collect(RouterSimilarity()).cosines()
        hook.remove()
    masks = [batch["attention_mask"].flatten() for batch in calibration(padded=True).batches()]
    z = torch.cat([one[mask] for one, mask in zip(kept, masks, strict=True)]).double()
    z = z if router == "rows" else z[:, numbers]  # the other routers keep all rows
    wanted = torch.nn.functional.cosine_similarity(z.T[:, None], z.T[None], dim=-1)
    torch.testing.assert_close(cosines[numbers][:, numbers], wanted)
    assert not cosines[[1, 3, 4]].any()


def planted(counts: list[int]) -> TokenCount:
    one = TokenCount()
    one.experts = tuple(range(len(counts)))
    one.count = torch.tensor(counts)
    return one


def test_dominant_experts_are_the_most_used_of_all_layers() -> None:
    tokens = {0: planted([1, 90, 9, 0]), 3: planted([30, 25, 26, 19])}
    assert dominant(tokens, 2) == {0: [1], 3: [0]}
    assert dominant(tokens, 4) == {0: [1], 3: [0, 2, 1]}
    assert dominant(tokens, 6) == {0: [1, 2], 3: [0, 2, 1, 3]}
    # Ties fill the budget, layer by layer, earlier blocks and lower numbers first.
    tied = {0: planted([5, 5, 5, 5]), 3: planted([5, 5, 5, 5])}
    assert dominant(tied, 5) == {0: [0, 1, 2], 3: [0, 1]}


@pytest.mark.parametrize("name", NAMES)
def test_a_group_without_tokens_is_averaged_evenly(
    name: str, tiny: Tiny, calibration: Calibrate
) -> None:
    model = merged(tiny("mixtral"), calibration(sequences=0), name, keep=3)
    base = tiny("mixtral")
    assert len(model.edits) == 4
    for edit in model.edits:
        assert isinstance(edit, MergeExperts)
        group = max(edit.groups, key=len)
        ours = model.blocks[edit.block].weight(f"experts.{group[0]}.down")
        theirs = torch.stack([base.blocks[edit.block].weight(f"experts.{e}.down") for e in group])
        torch.testing.assert_close(ours, theirs.mean(0))


def test_m_smoe_compares_single_rows(tiny: Tiny, calibration: Calibrate) -> None:
    model = merged(tiny("mixtral"), calibration(), "hc-smoe", keep=4)
    with pytest.raises(Refused, match="block 0 has merged experts, to which several rows of the"):
        merged(model, calibration(), "m-smoe", keep=2)


@pytest.mark.parametrize(
    "edit",
    [
        KeepExperts(block=1, experts=(0, 1, 3, 5), router="mask"),
        KeepExperts(block=1, experts=(0, 1, 3, 5), router="preserve"),
        MergeExperts(
            block=1, groups=((0, 4), (1,), (2, 3), (5,)), weights=((1, 1), (1,), (2, 3), (1,))
        ),
        SkipExperts(block=1, beta=0.5),
    ],
    ids=["masked", "preserved", "merged", "skipping"],
)
def test_hc_smoe_merges_like_experts_of_any_router(
    edit: Edit, family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    """Two experts with the same weights become one, and the model gives what it gave."""
    model = tiny(family)
    model.apply(edit)
    for block in model.moe_blocks():
        first, *_, last = block.experts
        copies = {
            f"experts.{last}.{role}": block.weight(f"experts.{first}.{role}").clone()
            for role in ("gate", "up", "down")
        }
        model.apply(SetWeights.of(block.index, copies))
    before, counts = logits(model.lm), [len(block.experts) for block in model.moe_blocks()]
    merged(model, calibration(), "hc-smoe", ratio=0.2)
    assert [len(block.experts) for block in model.moe_blocks()] == [n - 1 for n in counts]
    torch.testing.assert_close(logits(model.lm), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_more_experts_than_there_are(name: str, tiny: Tiny, calibration: Calibrate) -> None:
    with pytest.raises(Refused, match="keep = 7: block 0 has only 6 experts"):
        merged(tiny("mixtral"), calibration(), name, keep=7)
