"""Every ordered pair of edits: applied, saved, reloaded equal to the bit, or refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import Refused, UserError
from harness.model.edits import (
    EDITS,
    DropBlock,
    DropMoE,
    Edit,
    KeepExperts,
    LowRank,
    MergeExperts,
    QuantizeWeights,
    SetWeights,
    SkipExperts,
    parse,
)
from harness.model.files.artifact import load, save
from harness.model.files.audit import audit
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.view import Block, MoEModel
from tests.model.decoding import check_cached, logits
from tests.models import from_config, tiny_config

BLOCK = 2  # has experts in every family
KINDS = [*sorted(EDITS), "keep_experts-mask", "keep_experts-preserve"]
SCHEME = Scheme(group=0, symmetric=True)
GONE = dict.fromkeys(KINDS, "block 2 is not in the model")
NO_MOE = dict.fromkeys(KINDS, "no experts") | {
    "drop_block": "",
    "drop_moe": "dropped already",
    "low_rank": "has no experts.1.gate",
    "set_weights": "no weight",
    "quantize_weights": "is not there",
}
REFUSED: dict[str, dict[str, str]] = {
    "drop_block": GONE,
    "drop_moe": NO_MOE,
    "low_rank": {"low_rank": "low-rank already", "merge_experts": "cannot be merged"},
    "quantize_weights": {
        "low_rank": "factorise before quantizing",
        "merge_experts": "cannot be merged",
        "quantize_weights": "quantized already",
    },
}


def edit(kind: str, model: MoEModel) -> Edit:
    """One edit of each kind; one that works after the others wherever that makes sense."""
    block = Block(model, BLOCK)
    live = BLOCK in model.numbers and bool(block.experts)
    if kind == "drop_moe":
        return DropMoE(block=BLOCK)
    if kind == "drop_block":
        return DropBlock(block=BLOCK)
    if kind.startswith("keep_experts"):
        router: Any = kind.partition("-")[2] or "rows"
        experts = tuple(e for e in block.experts if e != 4)[:4] if live else (0,)
        return KeepExperts(block=BLOCK, experts=experts, router=router)
    if kind == "merge_experts":
        numbers = block.experts if live else (0, 1, 2)
        groups = (numbers[:1], numbers[1:3], *((n,) for n in numbers[3:]))
        return MergeExperts(
            block=BLOCK, groups=groups, weights=tuple((2.0, 1.0)[: len(g)] for g in groups)
        )
    if kind == "skip_experts":
        return SkipExperts(block=BLOCK, beta=0.6)
    names = ("experts.1.gate", "experts.1.down", "experts.3.up", "attention.o")
    if kind == "low_rank":
        return LowRank.of(
            BLOCK, {n: _factors(block.weight(n) if live and block.has(n) else None) for n in names}
        )
    if kind == "quantize_weights":
        return _quantized(block, names if live else ())
    names = ("experts.3.down", "router", "mlp_norm", "attention.q")
    return SetWeights.of(
        BLOCK,
        {n: block.weight(n) * 0.5 if live and block.has(n) else torch.zeros(1) for n in names},
    )


def _quantized(block: Block, names: tuple[str, ...]) -> QuantizeWeights:
    """Of a low-rank matrix the factors."""
    collected = {}
    for name in names:
        for part in [name] if block.has(name) else [f"{name}.u", f"{name}.v"]:
            weight = block.weight(part)
            codes = torch.arange(weight.numel()).reshape(weight.shape).to(torch.uint8) % 16
            scales = weight.abs().amax(1, keepdim=True) / 8
            collected[part] = Quantized.of(codes, scales, None, SCHEME)
    blank = Quantized.blank(SCHEME, (2, 2), torch.zeros(1))
    return QuantizeWeights.of(BLOCK, collected or {"experts.1.gate": blank})


def _factors(weight: Tensor | None) -> tuple[Tensor, Tensor]:
    if weight is None:
        return torch.zeros(1, 1), torch.zeros(1, 1)
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    rank = 3 if weight.shape[0] > 16 else 5
    return u[:, :rank] * s[:rank], v[:rank]


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "deepseek_v2"])
@pytest.mark.parametrize(("one", "two"), list(itertools.product(KINDS, KINDS)))
def test_every_ordered_pair(
    family: str, one: str, two: str, tiny: Callable[..., MoEModel], ids: Tensor, tmp_path: Path
) -> None:
    model = tiny(family)
    model.apply(edit(one, model))
    reason = REFUSED.get(one, {}).get(two)
    if reason:
        with pytest.raises(Refused, match=reason):
            model.apply(edit(two, model))
    else:
        model.apply(edit(two, model))
    model.apply(DropBlock(block=0))  # renumbering, in every combination
    before = logits(model, ids)
    save(model, tmp_path / "artifact")
    again = load(tmp_path / "artifact")
    audit(again, tmp_path / "artifact")
    after = logits(again, ids)
    assert torch.equal(after, before), float((after - before).abs().max())
    assert again.edits == model.edits
    assert again.lm.num_parameters() == model.lm.num_parameters()


def test_an_edit_never_touches_the_base(
    family: str, tiny: Callable[..., MoEModel], ids: Tensor
) -> None:
    model = tiny(family)
    reference = logits(tiny(family), ids)
    versions = model.snapshot()
    base = model.lm
    for kind in ("set_weights", "keep_experts"):
        model.apply(edit(kind, model))
    model.apply(DropMoE(block=3))
    model.apply(DropBlock(block=0))
    assert not torch.equal(logits(model, ids), reference)
    with torch.no_grad():
        assert torch.equal(base(ids).logits, reference)
    now = model.snapshot()
    assert all(now[index][0] is not versions[index][0] for index in (2, 3))


def test_removed_experts_are_as_if_the_router_never_chose_them(
    family: str, tiny: Callable[..., MoEModel], ids: Tensor
) -> None:
    pruned, masked = tiny(family), tiny(family)
    kept = {1: (0, 1, 2, 5), 2: (1, 3, 4), 3: (5,)}
    for index, experts in kept.items():
        if not Block(pruned, index).experts:
            continue
        pruned.apply(KeepExperts(block=index, experts=experts))
        gate = masked.layer(index).mlp.gate
        gate.top_k = min(gate.top_k, len(experts))
        gone = [e for e in range(6) if e not in experts]
        gate.forward = _mask(gate, gone)
    torch.testing.assert_close(logits(pruned, ids), logits(masked, ids), atol=2e-5, rtol=0)


def _mask(gate: torch.nn.Module, gone: list[int]) -> Callable[[Tensor], object]:
    """The router's own forward with an additive -1e9 on the logits of removed experts."""
    forward = gate.forward

    def masked(hidden: Tensor) -> object:
        linear: Any = F.linear

        def with_mask(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            out: Tensor = linear(x, weight, bias)
            out[..., gone] = -1e9
            return out

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(F, "linear", with_mask)
            return forward(hidden)

    return masked


@pytest.mark.parametrize("dropped", [0, 1, 3])
def test_cached_generation_equals_uncached_after_block_drop(
    family: str, dropped: int, tiny: Callable[..., MoEModel], ids: Tensor
) -> None:
    model = tiny(family)
    model.apply(DropBlock(block=dropped))
    check_cached(model, ids)
    generate: Any = model.lm.generate
    generated = generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert generated.shape == (2, 28)


def test_edits_survive_json(tiny: Callable[..., MoEModel]) -> None:
    model = tiny("mixtral")
    for kind in KINDS:
        one = edit(kind, model)
        assert parse(one.data(), where="test") == one


def test_the_last_block_cannot_be_dropped(tiny: Callable[..., MoEModel]) -> None:
    model = tiny("mixtral")
    for index in range(3):
        model.apply(DropBlock(block=index))
    with pytest.raises(Refused, match="no block would be left"):
        model.apply(DropBlock(block=3))


def test_a_group_limited_router_keeps_equally_many_of_each_group() -> None:
    router = {"topk_method": "group_limited_greedy", "n_group": 3, "topk_group": 2}
    lm = from_config(tiny_config("deepseek_v2", **router))
    model = MoEModel(lm, ref="groups", sha256="groups")
    with pytest.raises(Refused, match="equally many of each group"):
        model.apply(KeepExperts(block=2, experts=(0, 1, 2, 3)))
    model.apply(KeepExperts(block=2, experts=(0, 3, 5)))
    model.lm(torch.zeros(1, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (KeepExperts, {"experts": [1, 1]}),
        (KeepExperts, {"experts": [-1]}),
        (KeepExperts, {"experts": [True]}),
        (KeepExperts, {"experts": [0], "block": True}),
        (MergeExperts, {"groups": [[0, 0]], "weights": [[1, 1]]}),
        (MergeExperts, {"groups": [[]], "weights": [[]]}),
        (MergeExperts, {"groups": [[0]], "weights": [[float("nan")]]}),
        (MergeExperts, {"groups": [[0]], "weights": [[-1.0]]}),
        (LowRank, {"ranks": {"experts.0.up": True}}),
        (LowRank, {"ranks": {"experts.0.up": 0}}),
        (SetWeights, {"matrices": ["router", "router"]}),
    ],
)
def test_numbers_and_names_that_no_edit_can_have(
    kind: type[Edit], fields: dict[str, Any], tiny: Callable[..., MoEModel]
) -> None:
    data = {"kind": kind.kind, "block": 1, **fields}
    with pytest.raises(UserError, match=f"^here: the edit '{kind.kind}' is not valid: "):
        parse(data, where="here")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (KeepExperts(block=9, experts=(0,)), "block 9 is not in the model"),
        (KeepExperts(block=1, experts=(0, 6)), "has no expert 6"),
        (MergeExperts(block=1, groups=((0, 1), (1, 2)), weights=((1, 1), (1, 1))), "each expert"),
        (LowRank(block=1, ranks={"experts.7.up": 2}), r"has no experts\.7\.up"),
        (SetWeights(block=1, matrices=("experts.7.up",)), "has no weight"),
    ],
)
def test_numbers_and_names_that_the_model_does_not_have(
    edit: Edit, says: str, tiny: Callable[..., MoEModel]
) -> None:
    with pytest.raises(Refused, match=says):
        tiny("mixtral").apply(edit)


def test_what_is_dropped_is_dropped_once(tiny: Callable[..., MoEModel]) -> None:
    model = tiny("mixtral")
    model.apply(DropBlock(block=1))
    with pytest.raises(Refused, match="block 1 is not in the model"):
        model.apply(DropBlock(block=1))
