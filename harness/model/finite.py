"""Numbers that are finite: the one check of tensors, weights and new values, and its sentences.

An infinity or NaN in a model makes every comparison with it false, and a choice made by comparing
arbitrary. It is looked for where numbers come into being, so that nothing else need ask: in the
weights before a recipe's first step, in what a block gives, in statistics, in what an edit brings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from harness.errors import Refused


def largest(tensor: Tensor) -> float:
    """The largest |value|, in one pass; NaN if one is NaN.

    0 for what has no values, or none that could be other than finite.
    """
    if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    low, high = torch.aminmax(tensor)
    return max(abs(float(low)), abs(float(high)))


def is_finite(tensor: Tensor) -> bool:
    """True if a tensor holds neither an infinity nor NaN."""
    return math.isfinite(largest(tensor))


def refusal(what: str, dtype: torch.dtype) -> Refused:
    """The sentence for a quantity that is not finite.

    Args:
        what: The block and the quantity.
        dtype: The model's.
    """
    name = str(dtype).removeprefix("torch.")
    wider = "set dtype to bfloat16 or float32, whose range is wider, or " * (name == "float16")
    return Refused(f"{what} is not finite in {name}; {wider}mend the model's weights.")


def check_values(block: int, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Look at the tensors of an edit, which become weights of this number format.

    Raises:
        Refused: a value is not finite, or would not be in that format.
    """
    most = torch.finfo(dtype).max
    for name, tensor in tensors.items():
        if not largest(tensor) <= most:  # NaN is not
            raise refusal(f"block {block}: the new value of {name}", dtype)
