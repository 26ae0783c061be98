"""`moebench doctor`: versions, devices and folders of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import typer

from harness.cli.options import Results


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("doctor", epilog="Example: moebench doctor")(doctor)


def doctor(results: Results = Path("results")) -> None:
    """Print versions, devices, disk and folders, as a bug report needs them."""
    for name, value in findings(results):
        typer.echo(f"{name:<14} {value}")


def findings(results: Path) -> Iterator[tuple[str, str]]:
    """Yield name and value of everything that a bug report needs."""
    from harness.cli.process import owners
    from harness.disk.writing import obstacle
    from harness.measure.environment import environment
    from harness.model.quantized import native
    from harness.peers.peer import PEERS
    from harness.places import cache_folder
    from harness.run.stages.opening import device

    machine = environment(device=device())
    yield "python", f"{machine.python} on {machine.platform}"
    yield from machine.versions.items()
    yield (
        "commit",
        f"{machine.commit}{' (changed)' if machine.dirty else ''}" if machine.commit else "—",
    )
    yield (
        "device",
        machine.device if machine.driver is None else f"{machine.device}, {machine.driver}",
    )
    yield "processor", f"{machine.processor}, {machine.cores} cores, {machine.threads} threads"
    yield "4-bit product", "moebench's, compiled here" if native.product() else "torch's"
    yield "memory", f"{machine.memory_bytes / 2**30:.1f} GiB"
    for name in owners.PACKAGES:
        whose = ", ".join(owners.owners(name)) or "no distribution"
        yield name, f"{owners.location(name)} ({whose})"
    for peer in PEERS:
        yield peer.name, peer.finding()
    cache = cache_folder()
    yield "cache", f"{cache} ({_bytes_in(cache) / 2**20:.1f} MiB); {_keeps(obstacle(cache))}"
    yield "results", f"{results.absolute()} ({_free(results) / 2**30:.1f} GiB free)"


def _keeps(why_not: str | None) -> str:
    if why_not is None:
        return "it can be written"
    return (
        f"it cannot be written ({why_not}): results are right, but nothing is kept for later runs; "
        "make room, or name another folder in MOEBENCH_CACHE"
    )


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _free(folder: Path) -> int:
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    return shutil.disk_usage(existing).free
