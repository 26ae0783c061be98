"""Wanda's masks in every block against the authors'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from harness.model.view import MoEModel

Run = Callable[..., tuple[MoEModel, Any]]
ROLES = {"gate": "w1", "up": "w3", "down": "w2"}


def authors_name(matrix: str) -> str:
    part, _, rest = matrix.partition(".")
    if part == "attention":
        return f"self_attn.{rest}_proj.weight"
    if part == "router":
        return "block_sparse_moe.gate.weight"
    expert, role = rest.split(".")
    return f"block_sparse_moe.experts.{expert}.{ROLES[role]}.weight"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unstructured", {"sparsity": 0.5}),
        ("2-4", {"pattern": "2:4"}),
        ("4-8", {"pattern": "4:8"}),
    ],
)
def test_masks_of_every_block(
    name: str, options: dict[str, Any], compressed: Run, keep_mask: Callable[[str], Tensor]
) -> None:
    model, _ = compressed(
        "wanda", targets=["experts", "attention", "router"], prune_router=True, **options
    )
    compared = 0
    for block in model.blocks:
        for matrix in block.matrices():
            theirs = keep_mask(
                f"wanda/{name}/model.layers.{block.index}.{authors_name(matrix.name)}"
            )
            ours = block.weight(matrix) != 0
            assert bool((ours == theirs).all()), (block.index, matrix.name)
            compared += 1
    assert compared == 4 * (4 + 1 + 8 * 3)


def test_the_router_is_left_alone_by_default(compressed: Run) -> None:
    model, _ = compressed("wanda", sparsity=0.5)
    for block in model.blocks:
        assert bool((block.weight("router") != 0).all())
        assert bool((block.weight("attention.q") != 0).all())
