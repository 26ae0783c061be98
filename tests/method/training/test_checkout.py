"""A model checked out for training, and its changes as edits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.errors import Refused
from harness.method.training.checkout import changes, checkout, slots
from harness.model.edits import DropBlock, DropMoE, KeepExperts
from harness.model.shell import put
from harness.model.view import MoEModel

Tiny = Callable[..., MoEModel]
IDS = torch.arange(20).reshape(2, 10)


def logits(lm: Any) -> Tensor:
    with torch.no_grad():
        return lm(IDS).logits  # type: ignore[no-any-return]


def uneven(model: MoEModel) -> MoEModel:
    model.apply(KeepExperts(block=2, experts=(0, 2, 5)))
    model.apply(DropMoE(block=3))
    model.apply(DropBlock(block=0))
    return model


def test_shares_tensors_and_not_modules(family: str, tiny: Tiny) -> None:
    model = uneven(tiny(family))
    ours = checkout(model)
    theirs = dict(model.lm.named_parameters())
    assert all(theirs[name] is parameter for name, parameter in ours.named_parameters())
    assert not {id(m) for m in ours.modules()} & {id(m) for m in model.lm.modules()}
    assert torch.equal(logits(ours), logits(model.lm))
    assert list(changes(model, ours)) == []


def test_every_matrix_and_norm_comes_back(family: str, tiny: Tiny) -> None:
    model = uneven(tiny(family))
    before = logits(model.lm)
    ours = checkout(model)
    for block in model.blocks:
        for slot in slots(model, ours, block).values():
            if not slot.index:
                put(slot.module, slot.parameter, getattr(slot.module, slot.parameter) * 1.1)
    for layer in ours.model.layers:
        experts = getattr(layer.mlp, "experts", None)
        if experts is not None:
            put(experts, "gate_up_proj", experts.gate_up_proj * 0.9)
            put(experts, "down_proj", experts.down_proj + 0.01)
    edits = list(changes(model, ours))
    assert [edit.block for edit in edits] == [1, 2, 3]
    for block, edit in zip(model.blocks, edits, strict=True):
        names = {matrix.name for matrix in block.matrices()}
        left = {"attention_norm"} if block.index == 3 else {"attention_norm", "mlp_norm"}
        assert set(edit.matrices) == names | left
    assert torch.equal(logits(model.lm), before)
    for edit in edits:
        model.apply(edit)
    assert torch.equal(logits(model.lm), logits(ours))
    assert not torch.equal(logits(ours), before)


def test_only_what_was_replaced(tiny: Tiny) -> None:
    model = tiny("mixtral")
    ours: Any = checkout(model)
    attention = ours.model.layers[2].self_attn.q_proj
    put(attention, "weight", attention.weight + 1)
    put(ours.model.layers[0].mlp.experts, "down_proj", model.layer(0).mlp.experts.down_proj * 2)
    edits = list(changes(model, ours))
    downs = tuple(f"experts.{expert}.down" for expert in range(6))
    assert [(edit.block, edit.matrices) for edit in edits] == [(0, downs), (2, ("attention.q",))]
    assert torch.equal(
        edits[0].tensors["experts.3.down"], ours.model.layers[0].mlp.experts.down_proj[3]
    )


@pytest.mark.parametrize("name", ["model.embed_tokens", "model.norm", "lm_head"])
def test_what_no_edit_can_set(name: str, tiny: Tiny) -> None:
    model = tiny("mixtral")
    ours = checkout(model)
    part = ours.get_submodule(name)
    assert isinstance(part.weight, Tensor)
    put(part, "weight", part.weight + 1)
    with pytest.raises(Refused, match=f"{name}.weight was trained, and no edit can set it"):
        list(changes(model, ours))


def test_a_bias_is_no_matrix(tiny: Tiny) -> None:
    model = tiny("qwen2_moe")
    ours: Any = checkout(model)
    query = ours.model.layers[1].self_attn.q_proj
    put(query, "bias", query.bias + 1)
    with pytest.raises(Refused, match=r"model.layers.1.self_attn.q_proj.bias was trained"):
        list(changes(model, ours))


def test_another_structure(tiny: Tiny) -> None:
    model = tiny("mixtral")
    ours: Any = checkout(model)
    ours.model.layers[1].self_attn.extra = nn.Linear(2, 2)
    with pytest.raises(Refused, match=r"layers.1.self_attn.extra.bias is in the model before or"):
        list(changes(model, ours))
