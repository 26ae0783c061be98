"""The CUDA devices that this process may use, as NVML knows them: handles and energy."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)

INTERVAL = 0.020
"""Seconds between two looks at the power, where there is no counter of energy."""

Joules = Callable[[], float]
"""Energy used so far, counted from some moment on."""


def handles() -> list[Any] | None:
    """NVML's handles of the visible CUDA devices; None where it does not answer."""
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        # By UUID: NVML does not know CUDA_VISIBLE_DEVICES, so the two may number differently.
        return [
            pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(index).uuid}")
            for index in range(torch.cuda.device_count())
        ]
    except pynvml.NVMLError as error:
        logger.info("no NVML: %s", error)
        return None


@contextmanager
def energy(device: str) -> Iterator[Joules | None]:
    """Joules of all visible CUDA devices together; None for other devices and without NVML.

    By the devices' own counters (millijoules, refreshed by the driver some tens of times a
    second), else by power sampled every 20 ms. Whole devices: other processes on them too.
    """
    devices = handles() if device.startswith("cuda") else None
    if not devices:
        yield None
    elif (counter := _counter(devices)) is not None:
        yield counter
    elif (watts := _power(devices)) is not None:
        with _integrated(watts) as joules:
            yield joules
    else:
        yield None


def _counter(devices: list[Any]) -> Joules | None:
    import pynvml

    def joules() -> float:
        return (
            float(sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(device) for device in devices))
            / 1000
        )

    return joules if _answers(joules) else None


def _power(devices: list[Any]) -> Callable[[], float] | None:
    import pynvml

    def watts() -> float:
        return float(sum(pynvml.nvmlDeviceGetPowerUsage(device) for device in devices)) / 1000

    return watts if _answers(watts) else None


def _answers(reader: Callable[[], float]) -> bool:
    import pynvml

    try:
        reader()
    except pynvml.NVMLError as error:
        logger.info("NVML does not say: %s", error)
        return False
    return True


@contextmanager
def _integrated(watts: Callable[[], float]) -> Iterator[Joules]:
    """The integral of a power that a thread samples meanwhile."""
    total = 0.0
    ended = threading.Event()

    def watch() -> None:
        nonlocal total
        last = time.perf_counter()
        while not ended.wait(INTERVAL):
            now = time.perf_counter()
            total += watts() * (now - last)
            last = now

    thread = threading.Thread(target=watch, name="nvml-power", daemon=True)
    thread.start()
    try:
        yield lambda: total
    finally:
        ended.set()
        thread.join()
