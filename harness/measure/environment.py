"""The machine and the versions that numbers were measured with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.records.record import DECISIVE, Environment

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "moebench",
    "torch",
    "transformers",
    "lm-eval",
    "datasets",
    "fvcore",
    "safetensors",
    "numpy",
)
CHECKOUT = Path(__file__).resolve().parents[2]
"""The root of moebench's checkout, if it runs from one."""


def environment(device: torch.device | str = "cpu", threads: int | None = None) -> Environment:
    """Describe this machine. Imports no torch when `device` is the CPU.

    Args:
        device: What the model runs on.
        threads: CPU threads that torch uses; None asks torch if it is loaded already, and is
            otherwise OMP_NUM_THREADS or the usable cores.
    """
    cuda = str(device).startswith("cuda")
    commit = _git("rev-parse", "HEAD")
    changes = None if commit is None else _git("status", "--porcelain", "--untracked-files=no")
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        cores=usable_cores(),
        threads=threads or _threads(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        device=_gpu_name(device) if cuda else "cpu",
        driver=_driver() if cuda else None,
        versions=_versions(),
        commit=commit,
        dirty=None if changes is None else bool(changes),
    )


def surroundings() -> dict[str, str]:
    """Return the versions and the processor that change numbers, without importing anything."""
    versions = _versions()
    return {
        **{name: versions.get(name, "none") for name in DECISIVE},
        "processor": _processor(),
    }


def usable_cores() -> int:
    """Cores that this process may run on, which may be fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _threads() -> int:
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else usable_cores()


def _processor() -> str:
    """The processor's name as the kernel gives it; the architecture where it gives none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    """Versions of the packages that are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _gpu_name(device: torch.device | str) -> str:
    import torch

    return torch.cuda.get_device_name(torch.device(device))


def _driver() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


def _git(*arguments: str) -> str | None:
    """The output of git in moebench's own checkout; None when it runs from none, or git cannot."""
    if not (CHECKOUT / ".git").exists():
        return None
    # No optional locks: another git command may be at work in the same checkout.
    command = ["git", "--no-optional-locks", "-C", str(CHECKOUT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
