"""Whole shares of a total, by largest remainders."""

from __future__ import annotations

import math
from collections.abc import Sequence


def apportion(total: int, weights: Sequence[float], most: int) -> list[int]:
    """Return whole numbers from 1 to `most` in proportion to `weights` that add up to `total`.

    What would be more than `most` or less than 1 goes to, or comes from, the others in proportion;
    then the shares are rounded to 6 digits and made whole by `largest_remainders`.

    Args:
        total: From len(weights) to len(weights) * most.
        weights: Positive.
        most: Largest share.
    """

    def shares(scale: float) -> list[float]:
        return [min(max(weight * scale, 1.0), float(most)) for weight in weights]

    low, high = 0.0, most / min(weights)
    for _ in range(100):  # the sum grows with the scale; this is far below rounding
        middle = (low + high) / 2
        low, high = (middle, high) if sum(shares(middle)) <= total else (low, middle)
    return largest_remainders(total, [round(share, 6) for share in shares(low)])


def largest_remainders(total: int, shares: Sequence[float]) -> list[int]:
    """Return the shares as whole numbers that add up to `total`.

    All are rounded down, then those with the largest remainders up; of equal remainders the first.

    Args:
        total: Sum of the shares.
        shares: Not negative; rounded to so many digits that what should tie does.
    """
    whole = [math.floor(share) for share in shares]
    order = sorted(range(len(whole)), key=lambda place: (whole[place] - shares[place], place))
    for place in order[: total - sum(whole)]:
        whole[place] += 1
    return whole
