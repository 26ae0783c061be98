"""A trial: one fault done to the world, a verb called on it, and what came of it judged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UserError
from harness.records.store import Store
from tests.faults.calls import Called, call, call_process
from tests.faults.forms import order
from tests.faults.kinds import SPOILS, Kind, fits, like
from tests.faults.outcomes import Judged, Outcome, Seen, judge
from tests.faults.targets import Fault
from tests.faults.uses import Use, uses
from tests.faults.world import OUT, World

ALONE = 100
"""One fault of so many is tried in a process of its own, with workers; of these none is short."""


@dataclass(frozen=True)
class Trial:
    """A fault, the file that it spoiled, and the outcome."""

    fault: Fault
    file: Path
    judged: Judged
    seen: Seen

    def told(self) -> str:
        """Return what there is to know of it, for a report."""
        return (
            f"{self.fault.name}: {self.file}: {self.judged.outcome}\n{self.judged.why}\n"
            f"again: python -m tests.faults --only {self.fault.number}\n"
        )


@dataclass
class Trials:
    """Trials on one world, which is whole before and after each."""

    world: World
    whole: dict[tuple[str, bool], Seen] = field(default_factory=dict)
    """Calls on whole files by use, and whether in a process of their own."""

    def __post_init__(self) -> None:
        store = Store(self.world.whole / "results/tiny")
        self.uses = uses(store.plan().cells[1].id)

    def carry_out(self, fault: Fault) -> Trial:
        """Try one fault."""
        use = self.uses[fault.use]
        alone = fault.number % ALONE == ALONE - 1 and fault.target.folder != "papers"
        with self.world.entered():
            whole = self._whole(fault.use, alone)
            with self.world.copied(fault.target.folder):
                rng = fault.dice
                file = rng.choice(_files(fault))
                beside = self.world.digest()
                SPOILS[fault.kind](file, rng)
                spoiled = {str(file), *map(str, like(file))} if file.exists() else {str(file)}
                seen = _seen(use, alone, file if fault.kind is Kind.PIPE else None)
                judged = judge(whole, seen, file, sealed=fault.target.sealed)
                judged = _kept(self.world.digest(), judged, beside, spoiled) or judged
                judged = _left(judged, use, seen) or judged
        return Trial(fault, file, judged, seen)

    def _whole(self, name: str, alone: bool) -> Seen:
        if (name, alone) not in self.whole:
            with self.world.copied():
                seen = _seen(self.uses[name], alone, None)
            if seen.called.code or seen.called.fault or not seen.numbers:
                raise AssertionError(f"{name} on whole files: {seen}")
            self.whole[name, alone] = seen
        return self.whole[name, alone]


def _files(fault: Fault) -> list[Path]:
    """The files of a fault's target that can have it."""
    folder = Path(fault.target.folder)
    every = [
        path
        for pattern in fault.target.patterns
        for path in sorted(folder.glob(pattern), key=lambda path: (path.parent, order(path)))
    ]
    files = [path for path in every if path.is_file() and fits(fault.kind, path)]
    return [path for path in files if like(path)] if fault.kind is Kind.SWAP else files


def _kept(
    now: dict[str, str], judged: Judged, before: dict[str, str], spoiled: set[str]
) -> Judged | None:
    """A fault where a verb has changed or removed a file that it only reads."""
    lost = [name for name in before if before[name] != now.get(name) and name not in spoiled]
    return Judged(Outcome.FAULT, f"changed: {lost}\n{judged.why}") if lost else None


def _left(judged: Judged, use: Use, seen: Seen) -> Judged | None:
    """A fault where something unfinished is left after an error."""
    left = [str(path) for path in Path().rglob("*") if path.name.endswith(".tmp")]
    if use.makes and seen.called.code and Path(OUT).exists():
        left.append(OUT)
    return Judged(Outcome.FAULT, f"left behind: {left}\n{judged.why}") if left else None


def _seen(use: Use, alone: bool, pipe: Path | None) -> Seen:
    """Call the verb, and read its numbers or the reasons of its failures."""
    shutil.rmtree(OUT, ignore_errors=True)
    caller: Callable[..., Called] = call_process if alone else call
    called = caller(*use.arguments, pipe=pipe)
    if called.code == 0 and not called.fault:
        return Seen(called, use.numbers(called))
    return Seen(called, reasons=_reasons(use) if called.code == 1 else ())


def _reasons(use: Use) -> tuple[str, ...]:
    """The reasons of the cells that a run could not finish."""
    try:
        records = Store(Path(use.results, "tiny")).planned()
    except UserError:
        return ()
    return tuple(str(record.reason) for record in records if record.status == "failed")
