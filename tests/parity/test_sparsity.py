"""Wanda's, magnitude's and SparseGPT's masks and weights against the authors', in every block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model.view import MoEModel

Run = Callable[..., tuple[MoEModel, Any]]
Wrong = Callable[..., tuple[int, list[str]]]
EVERYTHING: dict[str, Any] = {
    "targets": ["experts", "attention", "router"],
    "prune_router": True,
}
PATTERNS: dict[str, dict[str, Any]] = {
    "unstructured": {"sparsity": 0.5},
    "2-4": {"pattern": "2:4"},
    "4-8": {"pattern": "4:8"},
}
MATRICES = 4 * (4 + 1 + 8 * 3)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("method", ["wanda", "magnitude"])
def test_masks(method: str, name: str, compressed: Run, wrong_masks: Wrong) -> None:
    model, _ = compressed(method, **EVERYTHING, **PATTERNS[name])
    assert wrong_masks(model, f"{method}/{name}") == (MATRICES, [])


def test_wandas_variant(compressed: Run, wrong_masks: Wrong) -> None:
    model, _ = compressed("wanda", sparsity=0.5, variant=True, **EVERYTHING)
    assert wrong_masks(model, "wanda/variant") == (MATRICES, [])
    assert len(wrong_masks(model, "wanda/unstructured")[1]) == MATRICES


@pytest.mark.parametrize("name", ["unstructured", "2-4"])
def test_wanda_in_cmoe_prunes_the_router_and_passes_on_what_the_original_gives(
    name: str, compressed: Run, wrong_masks: Wrong
) -> None:
    options = {"targets": ["experts", "router"], "prune_router": True, **PATTERNS[name]}
    parts = ("experts", "router")
    model, _ = compressed("wanda", propagate="original", **options)
    assert wrong_masks(model, f"cmoe_wanda/{name}", *parts) == (4 * (1 + 8 * 3), [])
    ours, _ = compressed("wanda", **options)  # the same in block 0 alone
    wrong = wrong_masks(ours, f"cmoe_wanda/{name}", *parts)[1]
    assert {name.split(".")[2] for name in wrong} == {"1", "2", "3"}


@pytest.mark.parametrize("method", ["wanda", "magnitude", "sparsegpt"])
def test_attention_and_router_are_left_alone_by_default(method: str, compressed: Run) -> None:
    model, _ = compressed(method, sparsity=0.5)
    for block in model.blocks:
        for matrix in block.matrices():
            assert bool((block.weight(matrix) == 0).any()) == (matrix.part == "experts")


def test_magnitude_in_cmoe_zeroes_the_large_weights(
    compressed: Run, expected: dict[str, Any]
) -> None:
    """The authors' facts are of expert 0's gate matrix in block 0."""
    facts = expected["cmoe"]["magnitude_inverted_mask"]
    whole = compressed("random", keep=8)[0].blocks[0].weight("experts.0.gate").abs()
    inverted = compressed("magnitude", sparsity=0.5, inverted=True)[0]
    kept = inverted.blocks[0].weight("experts.0.gate") != 0
    assert float(whole[kept].mean()) == pytest.approx(facts["mean|w| of kept"], rel=1e-6)
    assert float(whole[~kept].mean()) == pytest.approx(facts["mean|w| of zeroed"], rel=1e-6)
    right = compressed("magnitude", sparsity=0.5)[0].blocks[0].weight("experts.0.gate") != 0
    assert torch.equal(right, ~kept)


def test_sparsegpt(
    compressed: Run,
    sparsegpt_weights: dict[str, Tensor],
    authors_name: Callable[[int, str], str],
) -> None:
    """Masks equal; weights to what fp32, in which the authors invert H, leaves."""
    model, _ = compressed("sparsegpt", sparsity=0.5, **EVERYTHING)
    ours = {
        authors_name(block.index, matrix.name): block.weight(matrix)
        for block in model.blocks
        for matrix in block.matrices()
    }
    assert len(sparsegpt_weights) == 5 + 3 * 3
    for name, theirs in sparsegpt_weights.items():
        assert torch.equal(ours[name] != 0, theirs != 0), name
        torch.testing.assert_close(ours[name], theirs, atol=1e-6, rtol=0)
