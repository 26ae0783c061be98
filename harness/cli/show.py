"""`moebench show`: one record."""

from __future__ import annotations

import hashlib
import json as json_
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Results, say, tell
from harness.errors import UserError
from harness.words import told

if TYPE_CHECKING:
    from harness.records.record import Record


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("show", epilog="Example: moebench show 3fa9 --results results")(show)


def show(
    record: Annotated[
        str, typer.Argument(metavar="RECORD", help="A record's file, or the start of a cell id.")
    ],
    results: Results = Path("results"),
    json: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
) -> None:
    """Print the record of one cell: status, recipe, numbers, costs, warnings."""
    from harness.records.reading import record_text

    shown = find(record, results)
    if json:
        typer.echo(_escaped(record_text(shown, indent=1)), nl=False)
        return
    for name, value in lines(shown):
        for number, line in enumerate(value.splitlines() or [""]):
            tell(f"{'' if number else told(name, 22):<22} {line}")


def _escaped(text: str) -> str:
    """The same JSON, with what a terminal would not show as its number."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else json_.dumps(letter)[1:-1]
        for letter in text
    )


def find(name: str, results: Path) -> Record:
    """Return a record by its file or by the start of its cell's id.

    Where several results folders have the cell it is that of the first by name, which is said.

    Raises:
        UserError: no cell begins like that, several do, or the record is damaged.
    """
    from harness.records.reading import read_record
    from harness.records.store import Store

    if Path(name).suffix == ".json" and Path(name).is_file():
        return read_record(Path(name))
    if Path(name).is_file():
        raise UserError(f"{name} is no record; name a .json file, or the start of a cell id.")
    stores = [Store(folder) for folder in sorted(results.glob("*")) if folder.is_dir()]
    owners = [(cell, store) for store in stores for cell in store.cells() if cell.startswith(name)]
    cells = sorted({cell for cell, _ in owners})
    if len(cells) > 1:
        some = ", ".join(cells[:5])
        raise UserError(f"{len(cells)} cells in {results} begin with {name!r}: {some}. Say more.")
    record = owners[0][1].read(cells[0]) if owners else None
    if len(owners) > 1:
        say(f"{cells[0]} of {', '.join(str(store.folder) for _, store in owners)}: the first.")
    if record is None:
        lost = "".join(f" {error}" for store in stores for error in store.damage())
        raise UserError(
            f"no record {name!r} in {results}. Name a file, or the start of a cell id.{lost}"
        )
    return record


def lines(record: Record) -> Iterator[tuple[str, str]]:
    """Yield name and value of a record's contents; numbers that it lacks are left out."""
    yield "cell", record.cell
    yield "suite, row, seed", f"{record.suite}, {record.row}, {record.seed}"
    yield "status", record.status
    if record.reason:
        yield "reason", record.reason
    yield "model", f"{record.model.label} ({record.model.family}, {record.model.sha256[:12]})"
    for step in record.recipe:
        options = ", ".join(f"{name}={value}" for name, value in step.options.items())
        yield "step", f"{step.method}({options})"
        if step.calibration:
            c = step.calibration
            yield "  calibration", f"{c.ref}, {c.sequences} x {c.length} tokens, seed {c.seed}"
    yield "edits", str(len(record.edits))
    yield from _basis(record)
    for task in record.tasks.values():
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in sorted(task.metrics.items()))
        yield f"  {task.task}", f"{metrics}  ({task.items} items)"
    for name, perplexity in record.perplexity.items():
        yield f"  {name}", f"{perplexity.value:.4f}  ({perplexity.tokens} tokens)"
    yield from _costs(record)
    for warning in record.warnings:
        yield "warning", warning
    yield "created", f"{record.created}, {record.seconds:.1f} s"


def _basis(record: Record) -> Iterator[tuple[str, str]]:
    if record.basis is None:
        yield "code", "not recorded"
        return
    for stage, modules in record.basis.code.items():
        text = " ".join(f"{name} {digest}" for name, digest in sorted(modules.items()))
        digest = hashlib.sha256(text.encode()).hexdigest()
        yield f"code of {stage}", f"{digest[:16]} over {len(modules)} modules"
    for stage, sets in record.basis.data.items():
        for name, digest in sorted(sets.items()):
            yield f"data of {stage}", f"{name} {digest[:16] or 'not known'}"


def _costs(record: Record) -> Iterator[tuple[str, str]]:
    if record.size:
        yield "parameters", f"{record.size.parameters:,} ({record.size.active_parameters:,} active)"
    if record.flops:
        yield "MACs", f"{record.flops.macs:,} for {record.flops.tokens} tokens"
    if record.speed:
        for name, timing in (("prefill", record.speed.prefill), ("decode", record.speed.decode)):
            bounds = f"{timing.low:.2f} to {timing.high:.2f}"
            yield f"{name} speedup", f"{timing.speedup:.2f} (95 %: {bounds})"
    if record.compression_seconds is not None:
        yield "compression", f"{record.compression_seconds:.1f} s"
    if record.environment:
        yield "environment", f"{record.environment.device}, {record.environment.threads} threads"
