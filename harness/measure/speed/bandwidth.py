"""The measured bandwidth of this device's memory: the slope of the roofline."""

from __future__ import annotations

import functools
import time

import torch

BYTES = {"cpu": 1 << 28, "cuda": 1 << 31}
"""Size of the tensor that is copied: many times any cache."""
COPIES = 8


def copy_bandwidth(device: torch.device | str) -> float:
    """Bytes per second of copying one large tensor to another, read and written ones together.

    The fastest of eight copies, with the threads torch uses now on a CPU. Measured once per
    process, device and number of threads.
    """
    name = torch.device(device)
    return _measured(str(name), torch.get_num_threads() if name.type == "cpu" else 0)


@functools.cache
def _measured(device: str, threads: int) -> float:
    cuda = device.startswith("cuda")
    size = BYTES["cuda" if cuda else "cpu"]
    if cuda:
        free, _ = torch.cuda.mem_get_info(device)
        size = min(size, free // 4)
    source = torch.ones(size, dtype=torch.uint8, device=device)  # written: else no page is there
    target = torch.ones_like(source)
    fastest = min(_seconds(source, target, device if cuda else None) for _ in range(COPIES))
    return 2 * size / fastest


def _seconds(source: torch.Tensor, target: torch.Tensor, cuda: str | None) -> float:
    if cuda:
        torch.cuda.synchronize(cuda)
    start = time.perf_counter()
    target.copy_(source)
    if cuda:
        torch.cuda.synchronize(cuda)
    return time.perf_counter() - start
