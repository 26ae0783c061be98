"""EEP's dynamic skipping against the authors' thresholds and logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model.view import MoEModel

Run = Callable[..., tuple[MoEModel, Any]]


def test_betas_and_logits(
    compressed: Run,
    expected: dict[str, Any],
    authors_logits: dict[str, Tensor],
    logits: Callable[[MoEModel], Tensor],
) -> None:
    facts = expected["eep"]["dynamic_skipping"]
    model, report = compressed("eep-skip")
    betas = report.notes[0].data
    for statistic in ("median", "mean"):
        ours = {str(block): betas[block][statistic] for block in betas}
        assert ours == pytest.approx(facts[statistic], rel=1e-5)
    wanted = authors_logits["logits.eep.skipping"]
    torch.testing.assert_close(logits(model), wanted, atol=1e-4, rtol=0)
    assert not torch.allclose(wanted, authors_logits["logits.base"], atol=1e-2)
