"""What a run would do, without loading a weight: the same `compress`, on the meta device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cell import Cell, cells
from harness.check import check
from harness.errors import Refused
from harness.runner import finished, select
from harness.store import Store
from harness.suite import Suite

if TYPE_CHECKING:
    from harness.model.view import MoEModel


def preview(
    suite: Suite,
    results: Path,
    *,
    only: str | None = None,
    limit: int | None = None,
    data_root: Path | None = None,
) -> Iterator[str]:
    """One line per cell: its id, whether it is done, and what its steps would leave or why not.

    Raises:
        UserError: as a run would, before its first cell.
    """
    check(suite)
    store = Store(results / suite.name)
    chosen = select(cells(suite, data_root=data_root, limit=limit), only)
    for number, cell in enumerate(chosen, start=1):
        state = "done" if finished(store.read(cell.id)) else "to run"
        yield f"cell {number}/{len(chosen)}  {cell.id}  {cell.name}  {state}  {outcome(cell)}"


def outcome(cell: Cell) -> str:
    """What the cell's steps would leave of the model, or the sentence with which one refuses."""
    from harness import registry
    from harness.calibration.tokens import Tokens
    from harness.calibration.walk import Calibration
    from harness.compress import Step, compress
    from harness.model.source import open_meta

    protocol = cell.protocol
    model = open_meta(
        cell.model.ref,
        experts=protocol.experts_implementation,
        attention=protocol.attention_implementation,
    )
    before = counted(model)
    for number, step in enumerate(cell.steps, start=1):
        method = registry.build(step.method, dict(step.options))
        form = step.calibration
        calibration = Calibration(Tokens.empty(form.length or 1), batch_size=form.batch_size)
        try:
            compress(model, [Step(method, calibration)])
        except Refused as error:
            return f"step {number} ({step.method}) refuses: {error}"
    return f"{before:,} -> {counted(model):,} parameters, {shape(model)}"


def counted(model: MoEModel) -> int:
    """Parameters, tied ones once."""
    from harness.measure.size import measure_size

    return measure_size(model, None).parameters


def shape(model: MoEModel) -> str:
    """Blocks, and experts per block."""
    experts = " ".join(str(len(block.experts)) for block in model.blocks)
    return f"{len(model.blocks)} blocks, experts {experts}"
