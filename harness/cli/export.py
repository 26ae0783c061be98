"""`moebench export`: an artifact in the format of another library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Verify, say_phase

EXAMPLE = "Example: moebench export small --to hf --out small-hf"


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("export", epilog=EXAMPLE)(export)


def export(
    artifact: Annotated[
        str, typer.Argument(metavar="ARTIFACT", help="An artifact's folder, or any model.")
    ],
    to: Annotated[
        str,
        typer.Option(metavar="hf|compressed-tensors|gptq|awq", help="Format of the checkpoint."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder for the checkpoint.")],
    dequantise: Annotated[
        bool,
        typer.Option("--dequantise", help="Write packed weights as plain ones; only with --to hf."),
    ] = False,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Hold only a few blocks in memory at a time.")
    ] = False,
    verify: Verify = True,
) -> None:
    """Write an artifact as a checkpoint for other libraries, and read it back.

    Every tensor read back is compared with the artifact's. Where one differs, or an edit cannot be
    written in the format, nothing is left.
    """
    from harness.cache.upkeep import in_use
    from harness.export.writing import check_format
    from harness.export.writing import export as carry_out
    from harness.model.files.opening import open_model
    from harness.run.ticks import pulse

    check_format(to)
    with in_use(), pulse(say_phase) as tell:
        tell("loading the artifact")
        model = open_model(artifact, streaming=streaming, verify=verify)
        tell("writing, and reading back")
        proof = carry_out(model, out, to, dequantise=dequantise)
    typer.echo(f"{'read by':<12} {proof.reader}")
    typer.echo(f"{'experts':<12} {proof.experts} matrices, equal to the bit")
    typer.echo(f"{'others':<12} {proof.others} tensors, equal to the bit")
    if proof.quantized:
        typer.echo(f"{'quantized':<12} {proof.quantized} layers")
    typer.echo(f"{'checkpoint':<12} {out}")
