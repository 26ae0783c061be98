"""A linear layer as a chain of two: W = U V."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from harness.model.shell import put


class Factors(nn.Sequential):
    """Takes an `nn.Linear`'s place; the bias, where there is one, is the outer factor's.

    Args:
        u: [outputs, rank].
        v: [rank, inputs].
        bias: [outputs], or None.
    """

    def __init__(self, u: Tensor, v: Tensor, bias: Tensor | None) -> None:
        super().__init__(OrderedDict(v=_linear(v, None), u=_linear(u, bias)))
        self.out_features, self.in_features = u.shape[0], v.shape[1]


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    put(linear, "weight", weight)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear
