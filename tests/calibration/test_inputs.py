"""Covariances against direct sums over what every matrix multiplied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.calibration.statistics.inputs import Covariances
from harness.calibration.walk import Calibration
from harness.model.view import MoEModel

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]


@pytest.mark.parametrize("padded", [False, True])
def test_covariances(family: str, padded: bool, tiny: Tiny, calibration: Calibrate) -> None:
    """Sums over what every matrix multiplied, one tensor for those that read the same."""
    model = tiny(family)
    half = model.blocks[2].experts[0]
    for block in calibration(padded=padded).walk(model):
        inputs: dict[str, list[Tensor]] = {matrix.name: [] for matrix in block.matrices()}

        class Spy(Covariances):
            def update(self, seen: Any) -> None:
                super().update(seen)
                for matrix in seen.block.matrices():
                    inputs[matrix.name].append(seen.inputs(matrix).double())  # noqa: B023

        taken = block.collect(Spy())
        assert taken.sums.keys() == inputs.keys()
        for name, parts in inputs.items():
            x = torch.cat(parts)
            assert taken.sums[name].dtype == torch.float64
            torch.testing.assert_close(taken.sums[name], x.T @ x)
            assert int(taken.tokens[name]) == len(x)
        if block.experts:
            gate, up, down = (f"experts.{half}.{role}" for role in ("gate", "up", "down"))
            assert taken.sums[gate] is taken.sums[up]
            assert taken.sums[gate] is not taken.sums[down]


def test_covariances_of_no_token(tiny: Tiny, calibration: Calibrate) -> None:
    for block in calibration(sequences=0).walk(tiny("mixtral")):
        taken = block.collect(Covariances("experts"))
        assert taken.sums["experts.0.down"].shape == (24, 24)
        assert not taken.sums["experts.0.down"].any()
        assert not taken.tokens["experts.0.down"]
        assert taken.sums["experts.0.down"].untyped_storage().nbytes() == 8  # costs no memory
