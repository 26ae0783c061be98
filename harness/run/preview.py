"""Preview of a run without loading a weight: the same `compress`, on the meta device.

Full-size models whose configurations ship with the package are dry-run without network. Which
revision the hub has is then unknown, and with it the cell's id and whether it is done; with random
weights the revision does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.errors import Refused, UserError, first_line, one_line
from harness.measure.environment import surroundings
from harness.plan.cell import Cell
from harness.plan.cells import cells
from harness.plan.check import check
from harness.plan.suite import Suite
from harness.records.store import Store
from harness.run.due import due_of
from harness.run.runner import select

if TYPE_CHECKING:
    from harness.model.view import MoEModel
    from harness.records.record import Size

MINUS = "\N{MINUS SIGN}"


def preview(
    suite: Suite,
    results: Path,
    *,
    only: str | None = None,
    limit: int | None = None,
    data_root: Path | None = None,
) -> Iterator[str]:
    """Yield one line per cell: its id, its state, and what its steps would leave or why not.

    Args:
        suite: The suite, as `Suite.load` gives it.
        results: Folder of the results of all suites.
        only: As for `harness.run.runner.run`, like the two below.
        limit: Items per task.
        data_root: Folder with data sets.

    Raises:
        UserError: as a run would, before its first cell.
    """
    check(suite)
    store = Store(results / suite.name)
    chosen = select(cells(suite, data_root=data_root, limit=limit, offline=True), only)
    here = surroundings()
    for number, cell in enumerate(chosen, start=1):
        identity, state = state_of(cell, store, here)
        yield f"cell {number}/{len(chosen)}  {identity}  {cell.name}  {state}  {outcome(cell)}"


def state_of(cell: Cell, store: Store, here: Mapping[str, str]) -> tuple[str, str]:
    """Return the cell's id and its state; dashes and "planned" for an unknown id.

    Args:
        cell: The cell.
        store: The results folder.
        here: As for `harness.run.due.due_of`.
    """
    from harness.model.files.identity import shipped_config

    if cell.model.weights == "stored" and shipped_config(cell.model.ref):
        return "-" * len(cell.id), "planned"
    one = due_of(cell, store, here)
    if not one.stages:
        return cell.id, "done"
    return cell.id, f"to run again ({one.why})" if one.why else "to run"


def outcome(cell: Cell) -> str:
    """Say what the cell's steps would leave of the model, or with which sentence one refuses."""
    from harness.method.registry import theirs
    from harness.run.stages.compressing import run_dry
    from harness.run.stages.opening import open_on_meta

    model = open_on_meta(cell.model.ref, cell.protocol)
    before = counted(model)
    for number, step in enumerate(cell.steps, start=1):
        try:
            with theirs("", _own_file(step.method)):
                run_dry(model, step)
        except Refused as error:
            return f"step {number} ({step.method}) refuses: {error}"
        except (UserError, ValidationError) as error:
            return (
                f"step {number} ({step.method}) fails: {one_line(first_line(error)).lstrip(': ')}."
            )
    if not cell.steps:
        return f"{before.parameters:,} parameters, {shape(model)}"
    return f"{removed(before, counted(model))}, {shape(model)}"


def _own_file(method: str) -> Path | None:
    """Return the file of a method that is given as one, `FILE:CLASS`."""
    file, colon, _ = method.rpartition(".py:")
    return Path(f"{file}.py") if colon else None


def counted(model: MoEModel) -> Size:
    """Count all parameters, tied ones once, and those of the routed experts."""
    from harness.measure.size import measure_size

    return measure_size(model, None)


def removed(before: Size, after: Size) -> str:
    """Say the parameters before and after, and the share removed of all and of the experts'.

    The latter is what papers on experts mean by "Params": relative to the base model's experts.
    """
    text = f"{before.parameters:,} -> {after.parameters:,} parameters "
    text += f"({change(before.parameters, after.parameters)})"
    if before.expert_parameters:
        share = change(before.expert_parameters, after.expert_parameters)
        text += f", expert parameters {share}"
    return text


def change(before: int, after: int) -> str:
    """Say a count's relative change in percent."""
    if after == before:
        return "unchanged"
    return f"{100 * (after - before) / before:+.2f} %".replace("-", MINUS)


def shape(model: MoEModel) -> str:
    """Say the number of blocks, and of experts in each where the base model has any."""
    blocks = f"{len(model.blocks)} blocks"
    if not model.experts:
        return blocks
    return f"{blocks}, experts {' '.join(str(len(block.experts)) for block in model.blocks)}"
