from __future__ import annotations

from collections.abc import Callable

import torch

from harness.measure.flops import measure_flops
from harness.measure.shares import computed_share, measured_shares
from harness.model.edits import SkipExperts
from harness.model.view import MoEModel


def test_skipping_lowers_flops_by_what_was_measured(
    family: str, random_lm: Callable[..., object]
) -> None:
    model = MoEModel(random_lm(family), ref=family, sha256=family)  # type: ignore[arg-type]
    base = measure_flops(model, 32)
    for block in model.moe_blocks():
        model.apply(SkipExperts(block=block.index, beta=0.7))
    ids = torch.randint(0, 53, (4, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), measured_shares(model.lm):
        model.lm(ids)
    share = computed_share(model.lm)
    assert share is not None
    assert 0.3 < share < 0.95
    flops = measure_flops(model, 32)
    assert f"{100 * share:.1f} %" in flops.routing
    experts = sum(
        32 * b.top_k * sum(b.weight(f"experts.0.{r}").numel() for r in ("gate", "up", "down"))
        for b in model.moe_blocks()
    )
    assert flops.macs == flops.analytic_macs
    assert abs((base.macs - flops.macs) / experts - (1 - share)) < 0.02
