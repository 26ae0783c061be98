"""`--record DIR` writes what the benchmarks found as JSON, with the machine it was found on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.pairs import Pairs

Report = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--record`."""
    parser.addoption("--record", metavar="DIR", type=Path, help="write results to DIR as JSON")


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    """As the harness runs methods."""
    with torch.no_grad():
        yield


@pytest.fixture
def report(
    request: pytest.FixtureRequest, benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]
) -> Report:
    """Print a ratio with its spread, keep it with the benchmark, and record it."""

    def write(name: str, pairs: Pairs, **more: Any) -> None:
        ratio = {**pairs.result(), **more}
        benchmark.extra_info[name] = ratio
        with capsys.disabled():
            print(f"\n{name}: {json.dumps(ratio)}")  # noqa: T201 - what a benchmark is for
        folder: Path | None = request.config.getoption("--record")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            data = {"benchmark": name, **ratio, "machine": machine()}
            (folder / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n")

    return write


def machine() -> dict[str, Any]:
    """The machine and the versions that numbers were found with."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
