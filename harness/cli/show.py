"""`moebench show`: one record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Results
from harness.errors import UserError

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
    json: Annotated[bool, typer.Option("--json", help="The whole record, as stored.")] = False,
) -> None:
    """Print what is known of one cell."""
    from harness.records.store import read_record

    path = find(record, results)
    found = read_record(path)
    if json:
        typer.echo(path.read_text(encoding="utf-8"), nl=False)
        return
    for name, value in lines(found):
        typer.echo(f"{name:<22} {value}")


def find(name: str, results: Path) -> Path:
    """The file of a record; the first by name where several suites ran the same cell.

    Raises:
        UserError: none or several cells begin like that.
    """
    if Path(name).is_file():
        return Path(name)
    found = sorted(results.glob(f"*/records/{name}*.json"))
    if not found:
        raise UserError(f"no record {name!r} in {results}. Name a file, or the start of a cell id.")
    cells = sorted({path.stem for path in found})
    if len(cells) == 1:
        return found[0]
    some = ", ".join(cells[:5])
    raise UserError(f"{len(cells)} cells in {results} begin with {name!r}: {some}. Say more.")


def lines(record: Record) -> Iterator[tuple[str, str]]:
    """Name and value of what is worth reading, absent numbers left out."""
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
    for task in record.tasks.values():
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in sorted(task.metrics.items()))
        yield f"  {task.task}", f"{metrics}  ({task.items} items)"
    for name, perplexity in record.perplexity.items():
        yield f"  {name}", f"{perplexity.value:.4f}  ({perplexity.tokens} tokens)"
    yield from _costs(record)
    for warning in record.warnings:
        yield "warning", warning
    yield "created", f"{record.created}, {record.seconds:.1f} s"


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
