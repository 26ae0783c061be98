"""Progress of a run, on stderr: one line per finished cell, and a live line on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text

from harness.plan.cell import Cell
from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.words import told

_STYLES = {"ok": "green", "refused": "yellow", "failed": "red"}


class Progress:
    """Reports cells as they start, move on and finish.

    Args:
        console: Console that it is written to; None for stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._heading = ""

    @contextmanager
    def doing(self, heading: str) -> Iterator[None]:
        """Show on a terminal what is going on, until the block ends."""
        self._heading = heading
        if not self.console.is_terminal:
            yield
            return
        with self.console.status(Text(told(heading))) as self._status:
            yield
        self._status = None

    def tell(self, lines: Iterable[str]) -> None:
        """Print lines that stay."""
        for line in lines:
            self.console.print(Text(told(line)))

    @contextmanager
    def cell(self, number: int, total: int, cell: Cell) -> Iterator[None]:
        """Show a cell while it runs; `total` counts those finished before too."""
        with self.doing(f"cell {number}/{total}  {cell.name}"):
            yield

    def phase(self, text: str) -> None:
        """Say what the running cell is doing."""
        if self._status is not None:
            self._status.update(Text(told(f"{self._heading}  {text}")))

    def finished(self, record: Record, protocol: Protocol) -> None:
        """Print the line that stays of a cell."""
        line = (
            f"{self._heading}  {record.status}  {record.seconds:.1f} s{numbers(record, protocol)}"
        )
        self.console.print(Text(told(line)), style=_STYLES[record.status])
        if record.reason and record.status != "ok":
            self.console.print(Text(told(f"    {gist(record.reason)}")))


def numbers(record: Record, protocol: Protocol) -> str:
    """Say the average accuracy and the perplexities of a record, as far as it has them."""
    parts = []
    accuracies = [
        record.tasks[task].metrics.get("acc") for task in protocol.average if task in record.tasks
    ]
    known = [value for value in accuracies if value is not None]
    if known and len(known) == len(protocol.average):
        parts.append(f"avg {100 * math.fsum(known) / len(known):.1f}")
    parts += [f"{name} {result.value:.2f}" for name, result in record.perplexity.items()]
    return "".join(f"  {part}" for part in parts)


def gist(reason: str) -> str:
    """Return one line of a reason: a traceback's last, a sentence's first."""
    text = reason.strip().splitlines() or [""]
    return text[-1] if text[0].startswith("Traceback") else text[0]
