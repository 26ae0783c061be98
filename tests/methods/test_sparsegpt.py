"""SparseGPT's columns against a fresh inverse for each, and what damping is for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.errors import Refused
from harness.method.inverse import inverse_factor
from harness.method.sparsity import below
from methods.sparsity.sparsegpt import SparseGPT


def correlated(tokens: int, inputs: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(inputs, inputs, generator=generator, dtype=torch.float64)
    return torch.randn(tokens, inputs, generator=generator, dtype=torch.float64) @ mix


def damped(moment: Tensor) -> Tensor:
    return moment + 0.01 * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)


def stepwise(weight: Tensor, hessian: Tensor, zeroed: Tensor) -> Tensor:
    """SparseGPT as its paper derives it: a fresh inverse of what is left of H for every column."""
    weight = weight.clone()
    for column in range(weight.shape[1]):
        inverse = torch.linalg.inv(hessian[column:, column:])
        gone = weight[:, column] * zeroed[:, column]
        weight[:, column:] -= torch.outer(gone / inverse[0, 0], inverse[0])
    return weight


@pytest.mark.parametrize("tokens", [5, 200])
def test_the_factor_of_the_inverse(tokens: int) -> None:
    """Upper triangular, and U^T U is the damped inverse; fewer tokens than inputs, too."""
    x = correlated(tokens, 24)
    moment = x.T @ x
    upper = inverse_factor(moment, 0.01)
    assert torch.equal(upper, upper.triu())
    torch.testing.assert_close(upper.T @ upper, torch.linalg.inv(damped(moment)))


def test_damping_is_raised_until_rounding_no_longer_matters() -> None:
    indefinite = torch.ones(8, 8, dtype=torch.float64) - 0.05 * torch.eye(8)
    assert torch.linalg.eigvalsh(indefinite + 0.01 * torch.eye(8)).min() < 0
    assert inverse_factor(indefinite, 0.01).isfinite().all()
    with pytest.raises(Refused, match="not finite"):
        inverse_factor(torch.full((8, 8), torch.inf), 0.01)


@pytest.mark.parametrize("columns", [4, 8, 128])
@pytest.mark.parametrize("budget", [{"sparsity": 0.6}, {"pattern": "2:4"}])
def test_sparsegpt_is_the_stepwise_solution(columns: int, budget: dict[str, Any]) -> None:
    x = correlated(200, 16)
    moment = x.T @ x
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(12, 16, generator=generator, dtype=torch.float64)
    before = weight.clone()
    method = SparseGPT(columns=columns, **budget)
    ours = method._prune(weight, moment.diagonal(), inverse_factor(moment, 0.01))
    assert torch.equal(weight, before)
    zeroed = ours == 0
    theirs = stepwise(weight, damped(moment), zeroed)
    torch.testing.assert_close(ours, theirs.masked_fill(zeroed, 0.0), atol=1e-9, rtol=1e-9)
    assert theirs[zeroed].abs().max() < 1e-12
    if method.group:
        assert bool((zeroed.reshape(12, -1, 4).sum(-1) == 2).all())
    else:
        starts = range(0, 16, columns)
        share = [int(zeroed[:, start : start + columns].sum()) for start in starts]
        assert share == [int(12 * min(columns, 16) * 0.6) + 1] * len(share)
    masked = weight.masked_fill(zeroed, 0.0)  # the update pays
    assert ((ours - weight) @ x.T).norm() < ((masked - weight) @ x.T).norm()


def test_inputs_that_are_always_zero_and_matrices_without_tokens() -> None:
    x = correlated(50, 8)
    x[:, 3] = 0
    moment = x.T @ x
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    method = SparseGPT(sparsity=0.5)
    pruned = method._prune(weight, moment.diagonal(), inverse_factor(moment, 0.01))
    assert not pruned[:, 3].any()
    nothing = torch.zeros(8, 8, dtype=torch.float64)
    pruned = method._prune(weight, nothing.diagonal(), inverse_factor(nothing, 0.01))
    assert torch.equal(pruned, weight.masked_fill(below(weight.abs(), 0.5), 0.0))
