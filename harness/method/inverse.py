"""The triangular factor of a Hessian's inverse, by which SparseGPT and GPTQ update weights."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.errors import Refused

MOST_DAMPING = 1e3
"""Damping from which on the moment is taken to hold infinities: it is no sum of squares."""


def inverse_factor(moment: Tensor, damping: float) -> Tensor:
    """Return U, upper triangular, U^T U the inverse of the damped moment; [..., inputs, inputs].

    From one Cholesky factorisation of H with its rows and columns reversed. Where rounding makes H
    indefinite all the same, the damping of that matrix is raised tenfold until it is not.

    Args:
        moment: Sum of x x^T, or a stack of them, [..., inputs, inputs].
        damping: Number added to the diagonal, as a fraction of its mean; an input that is always
            zero gets 1 instead.

    Raises:
        Refused: a moment is not finite.
    """
    squares = moment.diagonal(dim1=-2, dim2=-1)  # [..., inputs]
    share = torch.full_like(squares[..., :1], damping)
    lower, failed = torch.linalg.cholesky_ex(_reversed(moment, share))
    while bool(failed.any()):
        if float(share.amax()) * 10 >= MOST_DAMPING:
            raise Refused(
                "what the model gives on the calibration tokens is not finite; check both."
            )
        share = share.where(failed[..., None] == 0, share * 10)
        lower, failed = torch.linalg.cholesky_ex(_reversed(moment, share))
    # H = (P L P)(P L P)^T with P the reversal and P H P = L L^T, so that U = P L^-1 P.
    identity = torch.eye(moment.shape[-1], dtype=moment.dtype, device=moment.device)
    inverse: Tensor = torch.linalg.solve_triangular(lower, identity, upper=False)
    return inverse.flip(-2, -1)


def _reversed(moment: Tensor, share: Tensor) -> Tensor:
    """P H P with `share` [..., 1] of the diagonal's mean added to the diagonal."""
    squares = moment.diagonal(dim1=-2, dim2=-1)
    added = (share * squares.mean(-1, keepdim=True)).expand_as(squares)
    damped = moment.flip(-2, -1)
    diagonal = damped.diagonal(dim1=-2, dim2=-1)
    diagonal.add_(added.masked_fill(squares == 0, 1.0).flip(-1))
    return damped
