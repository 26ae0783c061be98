"""Today's basis of cells: the code that each stage can reach now, and the data as it lies now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cache.notes import file_sha256
from harness.code.library import Library
from harness.code.modules import Unreadable
from harness.code.reach import Reach
from harness.data.fingerprint import Fingerprints
from harness.errors import UserError
from harness.places import data_root_of
from harness.plan.find import calibration_file
from harness.records.basis import Basis, Stage
from harness.reference import DATA, MODELS

if TYPE_CHECKING:
    from harness.plan.cell import Cell

Entry = tuple[str, str]
"""Module and name of a function or a class that a stage's code begins with."""

OPENING: tuple[Entry, ...] = (
    ("harness.run.stages.opening", "open_stored"),
    ("harness.run.stages.preparing", "prepare_process"),
)
DRAWING: tuple[Entry, ...] = (
    ("harness.run.stages.opening", "open_on_meta"),
    ("harness.run.stages.preparing", "prepare_process"),
    ("harness.run.stages.random_models", "fill"),
)
"""Entries of all stages by where weights come from: their files, or a random draw."""

AUDIT: Entry = ("harness.model.files.audit", "audit")
TASKS: Entry = ("harness.run.stages.evaluating", "evaluate_tasks")
PERPLEXITY: Entry = ("harness.run.stages.evaluating", "measure_perplexities")
FLOPS: tuple[Entry, ...] = (
    ("harness.run.stages.measuring", "fitting_length"),
    ("harness.measure.flops", "measure_flops"),
    ("harness.measure.shares", "measured_shares"),
)
"""FLOPs belong to the stage `evaluate`: they count what evaluation has computed."""

MEASURES: dict[str, tuple[Entry, ...]] = {
    "size": (("harness.measure.size", "measure_size"),),
    "memory": (
        ("harness.run.stages.measuring", "fitting_length"),
        ("harness.run.stages.measuring", "running_memory"),
    ),
    "speed": (("harness.run.stages.measuring", "measure_speed"),),
    "stock": (("harness.run.stages.measuring", "measure_speed"),),
    "instructions": (
        ("harness.data.root", "DataRoot"),
        ("harness.measure.speed.throughput", "instructions"),
        ("harness.run.stages.measuring", "measure_instructions"),
    ),
}
"""Entries of the stage `measure` by the protocol's word for the quantity."""

BESIDE: tuple[Entry, ...] = (
    ("harness.run.stages.random_models", "base_beside"),
    ("harness.model.files.random_values", "stored_bytes"),
)
"""Entries of the stage `measure` of random weights, beside the quantities."""
ORDER: tuple[Entry, ...] = (
    ("harness.run.stages.order", "Stages"),
    ("harness.run.stages.measuring", "simulated_bits"),
)
"""The code that calls the stages; what it calls is reached from the entries above. The classes of
the models of a cell, below, belong to it."""
STORED: Entry = ("harness.run.stages.stored_models", "StoredModels")
DRAWN: Entry = ("harness.run.stages.random_models", "RandomModels")


class Today:
    """Takes the basis of cells; reads every module and every data set at most once.

    Args:
        data_root: The user's data root; None for the embedded data or the hub.
        library: The source code; None for what the files hold.
    """

    def __init__(self, data_root: Path | None = None, library: Library | None = None) -> None:
        self.data_root = data_root
        self._reach = Reach(library)
        self._code: dict[tuple[tuple[Entry, ...], tuple[Entry, ...]], dict[str, str]] = {}
        self._data: dict[Path | None, Fingerprints] = {}

    def basis(self, cell: Cell) -> Basis:
        """Return a cell's basis.

        Raises:
            UserError: a file of the data cannot be read, or a method has no source.
        """
        order = alone(cell)
        try:
            code = {stage: self._of(begin, order) for stage, begin in entries(cell).items()}
        except Unreadable as error:
            raise UserError(
                f"{cell.name}: {error}, so that nobody can tell when its code changes; a method "
                "must be written in Python, and its file be there."
            ) from None
        drawn = cell.model.weights == "random"
        return Basis(code=code, data={} if drawn else self._fingerprints(cell))

    def keep(self) -> None:
        """Write down for other processes what was read of modules."""
        self._reach.library.keep()

    def _of(self, begin: tuple[Entry, ...], order: tuple[Entry, ...]) -> dict[str, str]:
        if (begin, order) not in self._code:
            self._code[begin, order] = self._reach.code(*begin, alone=order)
        return self._code[begin, order]

    def _fingerprints(self, cell: Cell) -> dict[Stage, dict[str, str]]:
        root = data_root_of(cell.model.ref, self.data_root)
        names: dict[Stage, Iterable[str]] = {
            "compress": calibration_sets(cell),
            "evaluate": evaluated_sets(cell),
            "measure": instruction_sets(cell),
        }
        return {
            stage: dict(self._named(root, name) for name in sorted(set(sets)))
            for stage, sets in names.items()
        }

    def _named(self, root: Path | None, name: str) -> tuple[str, str]:
        """The name that a basis has for a data set or a file, and its fingerprint."""
        if Path(name).is_absolute():
            return Path(name).name, file_sha256(Path(name))
        if name and "/" not in name:  # no hub id, but a file that ships with the package
            root = DATA
        known = self._data.setdefault(root, Fingerprints(root))
        return name or "everything", known.of(name)


def entries(cell: Cell) -> dict[Stage, tuple[Entry, ...]]:
    """Return where the code of each stage of a cell begins."""
    common = DRAWING if cell.model.weights == "random" else OPENING
    return {
        "compress": (*common, *compressing(cell)),
        "evaluate": (*common, *evaluating(cell)),
        "measure": (*common, *measuring(cell)),
    }


def alone(cell: Cell) -> tuple[Entry, ...]:
    """Return the definitions that call the stages of a cell, and count in each by themselves."""
    return (*ORDER, DRAWN if cell.model.weights == "random" else STORED)


def compressing(cell: Cell) -> tuple[Entry, ...]:
    """Return where a cell's compression begins: the harness's own code, and each step's method."""
    random = cell.model.weights == "random"
    first = ("harness.run.stages.compressing", "run_dry" if random else "compress_to")
    methods = dict.fromkeys(entry for step in cell.steps for entry in step.code)
    return (first, AUDIT, *methods)


def evaluating(cell: Cell) -> tuple[Entry, ...]:
    """Return where a cell's evaluation begins, as far as its protocol asks for it."""
    protocol = cell.protocol
    asked = [TASKS] if protocol.tasks else []
    asked += [PERPLEXITY] if protocol.perplexity else []
    return (*asked, *(FLOPS if "flops" in protocol.measure else ()))


def measuring(cell: Cell) -> tuple[Entry, ...]:
    """Return where measuring begins, for the quantities that a cell's protocol asks for."""
    asked = [entry for name in cell.protocol.measure for entry in MEASURES.get(name, ())]
    return (*(BESIDE if cell.model.weights == "random" else ()), *dict.fromkeys(asked))


def calibration_sets(cell: Cell) -> Iterator[str]:
    """Yield the data sets that a cell's steps are calibrated on; a path for a user's own file."""
    from harness.calibration.corpora.catalogue import CORPORA

    for step in cell.steps:
        ref = step.calibration.ref
        if step.calibration.sequences == 0:
            continue
        if ref in CORPORA:
            yield CORPORA[ref].hub_id or CORPORA[ref].file
        elif file := calibration_file(ref):
            yield str(file.absolute())


def evaluated_sets(cell: Cell) -> Iterator[str]:
    """Yield the data sets of a cell's tasks and perplexities.

    Empty, for the whole data root, where only lm-eval's index knows a task's data.
    """
    from harness.evaluate.lm_eval_tasks import data_sets
    from harness.evaluate.texts import TEXTS

    for task in cell.protocol.tasks:
        yield from data_sets(task) or {""}
    for name in cell.protocol.perplexity:
        yield TEXTS[name].hub_id


def instruction_sets(cell: Cell) -> Iterator[str]:
    """Yield the data set of the prompts of a cell's throughput."""
    from harness.calibration.corpora.catalogue import CORPORA, INSTRUCTIONS, OWN_INSTRUCTIONS

    if "instructions" in cell.protocol.measure:
        corpus = CORPORA[OWN_INSTRUCTIONS if cell.model.ref in MODELS else INSTRUCTIONS]
        yield corpus.hub_id or corpus.file
