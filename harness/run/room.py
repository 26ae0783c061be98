"""Room for a suite's random weights, checked before anything runs."""

from __future__ import annotations

from harness.plan.suite import Suite

GIB = 2**30
HOST = 4 * GIB
"""The largest model with random weights that runs on a CPU: beyond it, times say nothing."""
BESIDE = 2 * GIB
"""Bytes that activations, a cache and the CUDA context may take beside the weights."""
SMALL = "efficiency-small"
"""Name of the suite that runs anywhere."""


def check_room(suite: Suite) -> None:
    """See that every model of a suite with random weights fits where cells run.

    Raises:
        UserError: one does not, with the memory it needs.
    """
    if not suite.random:
        return
    from harness.measure.nvml import total_memory
    from harness.run.stages.opening import device

    on_gpu = device() == "cuda"
    room = total_memory() if on_gpu else HOST
    for number, ref in enumerate(suite.models):
        weights = weight_bytes(ref, suite.protocol.dtype)
        needed = weights + BESIDE
        if room is None or (needed if on_gpu else weights) <= room:
            continue
        # Rounded up for what is needed, down for what there is.
        has = f"this one has {room // GIB}" if on_gpu else "there is none here"
        raise suite.model_error(
            number,
            f"{ref} with random weights needs a GPU with {-(-needed // GIB)} GiB, and {has}; "
            f"`moebench run {SMALL}` runs anywhere.",
        )


def weight_bytes(ref: str, dtype: str) -> int:
    """Count the bytes of a model's uncompressed weights."""
    import torch

    from harness.measure.size import measure_size
    from harness.model.files.opening import open_meta

    return measure_size(open_meta(ref), None).parameters * int(getattr(torch, dtype).itemsize)
