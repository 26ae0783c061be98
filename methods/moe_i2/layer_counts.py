"""Number of experts that each layer gives up, by the layers' importance."""

from __future__ import annotations

from collections.abc import Mapping

from harness.method import Importance, largest_remainders


def by_importance(
    importance: Importance, drops: Mapping[int, int], most: Mapping[int, int]
) -> dict[int, int]:
    """Spread the experts to be dropped: less important layers give up more.

    The paper distributes them by "normalised layer importance" and gives no formula. Our reading:
    with I_i the mean of I_{i,j} over the experts of layer i (the paper's sum, divided by the
    experts so that uneven layers compare), layer i's pruning rate is in proportion to
    (max I - I_i) + (max I - min I). Neither the scale nor the offset of the losses matters, and the
    least important layer is pruned at twice the rate of the most important one. Unlike in
    `harness.method.apportion`, a layer may give up none, and every layer has a most of its own; the
    shares are rounded to 9 digits and made whole by the same largest remainders.

    Args:
        importance: Losses I_{i,j}.
        drops: Experts that each layer would give up at a uniform count, by block; their sum is kept
            exactly.
        most: Largest number of experts that each layer can give up, by block.

    Returns:
        Number of experts to drop, by block; at most `most`.
    """
    mean = {
        block: sum(importance.losses[block].values()) / _size(importance, block) for block in drops
    }
    high, low = max(mean.values()), min(mean.values())
    rate = {block: (high - mean[block]) + (high - low) if high > low else 1.0 for block in drops}
    weights = {block: rate[block] * _size(importance, block) for block in drops}
    total = sum(drops.values())
    shares = _capped(weights, most, total)
    counts = largest_remainders(total, [round(share, 9) for share in shares.values()])
    return dict(zip(shares, counts, strict=True))


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
