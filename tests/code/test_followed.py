"""What runs while a cell is computed is in the basis of the stage that runs it."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from harness.code.library import Library
from harness.code.outline import EFFECTS
from harness.code.reach import SILENT, Place, Reach
from harness.peers.peer import PEERS
from harness.places import data_root_of
from harness.plan.cells import cells
from harness.plan.suite import Suite
from harness.plan.today import alone, entries
from harness.run.job import Job
from harness.run.stages.order import Stages

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "harness").rglob("*.py"), *(ROOT / "methods").rglob("*.py")]
SUITE = """
models = ["reference/mixtral"]
{weights}
[protocol]
dtype = "float32"
tasks = [{tasks}]
average = [{tasks}]
perplexity = [{texts}]
limit = 1
measure = ["size", "memory", "flops", "speed", "instructions"]
sequence_length = 8
new_tokens = 2
instructions = 2
instruction_tokens = 2
threads = 1
{calibration}
[[recipes]]
name = "all"
steps = [
    {{ method = "eep", keep = 6 }},
    {{ method = "svd", ratio = 0.36, targets = ["experts"] }},
    {{ method = "rtn", group = 32, targets = ["attention"] }},
]
"""
STORED = SUITE.format(
    weights="",
    tasks='"boolq"',
    texts='"wikitext2"',
    calibration='[calibration]\nref = "reference"\nsequences = 2\nlength = 16\n',
)
DRAWN = SUITE.format(weights='weights = "random"', tasks="", texts="", calibration="")

EXCUSED = {
    "harness.measure.environment": "the machine and its libraries: on record, and compared",
    "harness.measure.exclusive": "waits until nobody else measures",
    "harness.run.job": "where a worker finds its files",
    "harness.plan.cell": "the shape of a recipe on record",
}
"""Modules that run and are in no basis, with the reason why no number rests on them."""
STAGE_OF = {  # `note_length` writes a sentence only
    "prepare": "compress",
    "compress": "compress",
    "note_simulated": "compress",
    "audit": "compress",
    "evaluate": "evaluate",
    "measure_memory": "measure",
    "measure": "measure",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {str(path): module_of(path) for path in SOURCES}


class Tracer:
    """Notes which definitions of ours run in which stage."""

    def __init__(self) -> None:
        self.stage = ""
        self.ran: dict[str, set[Place]] = defaultdict(set)

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        module = MODULES.get(frame.f_code.co_filename)
        if event == "call" and module and self.stage:
            name = frame.f_code.co_qualname.partition(".")[0]
            if frame.f_code.co_flags & CO_OPTIMIZED and not name.startswith("<"):  # no class body
                self.ran[self.stage].add(Place(module, name))

    @contextmanager
    def on(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        for name, stage in STAGE_OF.items():
            patch.setattr(Stages, name, self._in_stage(stage, getattr(Stages, name)))
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _in_stage(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            before, self.stage = self.stage, stage
            try:
                return function(*arguments)
            finally:
                self.stage = before

        return called


@pytest.mark.parametrize("text", [STORED, DRAWN], ids=["stored", "random"])
def test_what_runs_is_in_the_basis(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [_, cell] = cells(Suite.parse(text, name="traced", source="traced.toml"))
    job = Job(cell, data_root_of(cell.model.ref, None), tmp_path / "work", tmp_path / "cache")
    job.folder.mkdir()
    tracer = Tracer()
    with tracer.on(monkeypatch):
        Stages(job, lambda phase: None).run()
    reach = Reach()
    for stage, begin in entries(cell).items():
        known = reach.places(*begin, alone=alone(cell))
        silent = (*SILENT, *EXCUSED)
        lost = {
            place
            for place in tracer.ran[stage] - known
            if not any(f"{place.module}.".startswith(f"{room}.") for room in silent)
        }
        assert not lost, stage
        assert len(tracer.ran[stage] & known) > 20


def test_importing_moebench_has_no_effects() -> None:
    """So that no definition rests on the effects of all modules around it."""
    library = Library()
    acting = {module for module in MODULES.values() if library.has(module, EFFECTS)}
    scripts = ("harness.__main__", "harness.cli.", "harness.peers.workers.", "harness.reference.")
    assert {module for module in acting if not module.startswith(scripts)} == set()


def test_the_modules_of_peers_are_all_that_their_workers_import() -> None:
    for peer in PEERS:
        siblings = {path.stem for path in peer.worker.parent.glob("*.py")}
        named = {module.rpartition(".")[2] for module in peer.modules}
        imported = set()
        for name in named:
            tree = ast.parse((peer.worker.parent / f"{name}.py").read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    imported.add(node.module)
                elif isinstance(node, ast.Import):
                    imported |= {alias.name for alias in node.names}
        assert peer.worker.stem in named
        assert imported & siblings <= named
