"""Truncated factors of a matrix, least in error on the inputs that the calibration showed it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

JITTER = 1e-6
"""Least eigenvalue to which a covariance that is not positive definite is lifted."""


def whitening(covariance: Tensor) -> Tensor | None:
    """Return L of A = L L^T, lower triangular fp64 [inputs, inputs].

    As in SVD-LLM (Wang et al. 2024), a covariance that is not positive definite has
    (1e-6 - its least eigenvalue) I added. Deviation: where fp64 cannot tell even that from a
    singular matrix, ten times as much is added, until it can.

    Args:
        covariance: A = sum x x^T over the tokens that a matrix multiplied, finite, fp32 or fp64
            [inputs, inputs].

    Returns:
        L; None where no token was seen, and on the meta device: then the plain SVD is meant.
    """
    if covariance.is_meta or not bool(covariance.diagonal().any()):
        return None
    matrix = covariance.double()
    root: Tensor
    failed: Tensor
    root, failed = torch.linalg.cholesky_ex(matrix)
    if not int(failed):
        return root
    added = JITTER + max(0.0, -float(torch.linalg.eigvalsh(matrix)[0]))
    while int(failed) and math.isfinite(added):
        lifted = matrix.clone()  # `matrix` may be the statistic's own tensor
        lifted.diagonal().add_(added)
        root, failed = torch.linalg.cholesky_ex(lifted)
        added *= 10
    return root


def factors(weight: Tensor, root: Tensor | None, rank: int) -> tuple[Tensor, Tensor]:
    """Return u and v with u v nearest to W in || (W - u v) X ||_F, X the inputs behind `root`.

    W L = U S V^T, u = U_k S_k^1/2, v = S_k^1/2 V_k^T L^-1 (SVD-LLM, Wang et al. 2024);
    the squared error is the sum of the S^2 left out. Computed in fp64 from the eigenvectors of
    the smaller of (W L)(W L)^T and (W L)^T(W L): U_k U_k^T W and W (L V_k V_k^T L^-1) are the same
    product, S only splits the scale between u and v, so that squaring it costs no accuracy.

    Args:
        weight: W, [outputs, inputs].
        root: L as `whitening` gives it; None for the plain SVD.
        rank: k, from 1 to the smaller side.

    Returns:
        u [outputs, rank] and v [rank, inputs] in the weight's dtype, on its device; on the meta
        device no more than their shapes.
    """
    outputs, inputs = weight.shape
    if weight.is_meta:
        return weight.new_empty(outputs, rank), weight.new_empty(rank, inputs)
    exact = weight.double()
    whitened = exact if root is None else exact @ root  # fp64 [outputs, inputs]
    if outputs <= inputs:
        left, scale = _leading(whitened @ whitened.T, rank)
        u, v = left * scale, (left / scale).T @ exact
    else:
        right, scale = _leading(whitened.T @ whitened, rank)
        u, v = whitened @ (right / scale), (right * scale).T
        if root is not None:
            v = torch.linalg.solve_triangular(root, v, upper=False, left=False)
    return u.to(weight.dtype).contiguous(), v.to(weight.dtype).contiguous()


def _leading(gram: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The leading eigenvectors, fp64 [n, rank], and S_k^1/2, [rank], kept off zero."""
    squares, vectors = torch.linalg.eigh(gram)  # ascending
    squares, vectors = squares[-rank:].flip(0), vectors[:, -rank:].flip(1)
    smallest = max(torch.finfo(torch.float64).eps * float(squares[0]), 1e-60)
    return vectors, squares.clamp_min(smallest) ** 0.25
