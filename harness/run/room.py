"""Whether there is room for a suite's random weights, asked before anything runs."""

from __future__ import annotations

from harness.errors import UserError
from harness.plan.suite import Suite

GIB = 2**30
HOST = 4 * GIB
"""The largest model with random weights that runs on a CPU: beyond it, times say nothing."""
BESIDE = 2 * GIB
"""What activations, a cache and the CUDA context may take beside the weights."""
SMALL = "efficiency-small"
"""The suite to run instead."""


def check_room(suite: Suite) -> None:
    """See that every model of a suite with random weights fits where cells run.

    Raises:
        UserError: one does not, with the memory it needs.
    """
    if not suite.random:
        return
    from harness.run.models import device

    on_gpu = device() == "cuda"
    room = gpu_bytes() if on_gpu else HOST
    for number, ref in enumerate(suite.models):
        weights = weight_bytes(ref, suite.protocol.dtype)
        needed = weights + BESIDE
        if room is None or (needed if on_gpu else weights) <= room:
            continue
        # Rounded up for what is needed, down for what there is.
        has = f"this one has {room // GIB}" if on_gpu else "there is none here"
        raise UserError(
            f"{suite.where_model(number)}: {ref} with random weights needs a GPU with "
            f"{-(-needed // GIB)} GiB, and {has}; `moebench run {SMALL}` runs anywhere."
        )


def weight_bytes(ref: str, dtype: str) -> int:
    """What the uncompressed weights take."""
    import torch

    from harness.measure.size import measure_size
    from harness.model.files.opening import open_meta

    return measure_size(open_meta(ref), None).parameters * int(getattr(torch, dtype).itemsize)


def gpu_bytes() -> int | None:
    """Memory of the GPU; None where NVML does not say, as torch would open a context to ask."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError:
        return None
