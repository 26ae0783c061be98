"""How many experts each layer gives up, by the layers' importance."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.calibration.passes.importance import Importance


def by_importance(
    importance: Importance, drops: Mapping[int, int], most: Mapping[int, int]
) -> dict[int, int]:
    """Spread the experts to be dropped: less important layers give up more.

    The paper distributes them by "normalised layer importance" and gives no formula. Our reading:
    with I_i the mean of I_{i,j} over the experts of layer i (the paper's sum, divided by the
    experts so that uneven layers compare), layer i's pruning rate is in proportion to
    (max I - I_i) + (max I - min I). Neither the scale nor the offset of the losses matters, and the
    least important layer is pruned at twice the rate of the most important one.

    Args:
        importance: The losses I_{i,j}.
        drops: Experts each layer would give up at a uniform count; their sum is kept exactly.
        most: The most that each layer can give up.

    Returns:
        Experts to drop per layer, at most `most`.
    """
    mean = {
        block: sum(importance.losses[block].values()) / _size(importance, block) for block in drops
    }
    high, low = max(mean.values()), min(mean.values())
    rate = {block: (high - mean[block]) + (high - low) if high > low else 1.0 for block in drops}
    weights = {block: rate[block] * _size(importance, block) for block in drops}
    shares = _capped(weights, most, sum(drops.values()))
    return _whole(shares, sum(drops.values()))


def _size(importance: Importance, block: int) -> int:
    return len(importance.losses[block])


def _capped(weights: Mapping[int, float], most: Mapping[int, int], total: int) -> dict[int, float]:
    """Shares of `total` in proportion to weights; what a layer cannot take goes to the others."""
    shares = dict.fromkeys(weights, 0.0)
    free = set(weights)
    while free:
        left = total - sum(share for block, share in shares.items() if block not in free)
        scale = left / sum(weights[block] for block in free)
        full = {block for block in free if weights[block] * scale >= most[block]}
        if not full:
            return shares | {block: weights[block] * scale for block in free}
        shares |= {block: float(most[block]) for block in full}
        free -= full
    return shares


def _whole(shares: Mapping[int, float], total: int) -> dict[int, int]:
    """Largest remainders are rounded up, those of earlier layers first."""
    exact = {block: round(share, 9) for block, share in shares.items()}
    counts = {block: math.floor(share) for block, share in exact.items()}
    by_rest = sorted(exact, key=lambda block: counts[block] - exact[block])
    for block in by_rest[: total - sum(counts.values())]:
        counts[block] += 1
    return counts
