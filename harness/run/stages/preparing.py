"""The settings of a process that compresses or evaluates: a worker's, and a verb's own."""

from __future__ import annotations

import threading


def prepare_process(*, seed: int, threads: int | None) -> None:
    """Set the seed, the threads and the determinism of everything that this process computes.

    What libraries read when they are imported comes earlier: `harness.places.prepare_environment`.

    Args:
        seed: Seed of torch's generators.
        threads: CPU threads of torch; None for its own choice.
    """
    import torch
    from tqdm import tqdm  # type: ignore[import-untyped]

    # Its own lock is a semaphore of the system, which a killed worker would leave behind.
    tqdm.set_lock(threading.RLock())
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It would touch every page of every new tensor, which peak memory would then show.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
