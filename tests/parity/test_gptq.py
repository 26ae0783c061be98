"""GPTQ's weights against the authors', for expert 0 of the first block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from harness.model.view import MoEModel

DATA = Path(__file__).parent / "data"
Run = Callable[..., tuple[MoEModel, Any]]
VARIANTS: dict[str, dict[str, Any]] = {
    "g32_asym": {"group": 32, "lazy_groups": True},
    "g32_actorder_static": {"group": 32, "act_order": True, "static_groups": True},
    "perchannel_actorder": {"group": 0, "act_order": True},
}


def distances(model: MoEModel, variant: str) -> dict[str, float]:
    """The largest difference from the authors' weights, by matrix."""
    theirs = load_file(DATA / "gptq.safetensors")
    ours: dict[str, Tensor] = {
        role: model.blocks[0].weight(f"experts.0.{role}") for role in ("gate", "up", "down")
    }
    return {
        role: float((weight - theirs[f"{variant}/{role}"]).abs().max())
        for role, weight in ours.items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights(variant: str, compressed: Run) -> None:
    """Equal to what fp32, in which the authors work, leaves: every code and every grid."""
    model, _ = compressed("gptq", **VARIANTS[variant])
    apart = distances(model, variant)
    assert len(apart) == 3
    assert max(apart.values()) < 1e-7


def test_grids_that_see_every_update_are_not_the_authors(compressed: Run) -> None:
    """What `lazy_groups` is for: with it off, a third of the weights differs."""
    model, _ = compressed("gptq", group=32)
    theirs = load_file(DATA / "gptq.safetensors")["g32_asym/gate"]
    differ = (model.blocks[0].weight("experts.0.gate") - theirs).abs() > 1e-6
    assert 0.2 < float(differ.float().mean()) < 0.8
