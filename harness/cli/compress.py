"""`moebench compress`: one model, one recipe, one artifact; nothing is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cache.upkeep import in_use
from harness.cli.options import DataRoot, DType, Verify, as_list, check_dtype, say, say_phase
from harness.disk.reading import BadFile, parse_toml
from harness.errors import UserError, quoted

if TYPE_CHECKING:
    from harness.plan.forms import CalibrationForm
    from harness.plan.suite import Step
    from harness.records.protocol import Protocol

EXAMPLE = (
    "Example: moebench compress --model reference/mixtral --method eep --set keep=4 --out small"
)


SetOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Option of the method; repeatable. A list is A,B."
    ),
]


def add(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("compress", epilog=EXAMPLE)(compress)


def compress(
    model: Annotated[str, typer.Option(metavar="MODEL", help="Reference name, folder or hub id.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder for the artifact.")],
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help="A method, or path/to/file.py:Class.")
    ] = None,
    set_: SetOptions = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML with steps = [...], instead of --method."),
    ] = None,
    calibration: Annotated[
        str, typer.Option(metavar="CORPUS", help="Corpus or file of calibration text.")
    ] = "reference",
    sequences: Annotated[
        int | None, typer.Option(min=0, help="Calibration sequences; else the corpus's own.")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens per calibration sequence; else the corpus's own."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Calibration sequences per forward pass.")
    ] = 8,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**32 - 1, help="Seed of the method and of the calibration draw."),
    ] = 0,
    dtype: DType = "float32",
    data_root: DataRoot = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Hold only a few blocks in memory at a time.")
    ] = False,
    verify: Verify = True,
) -> None:
    """Compress a model and save it as an artifact, which `moebench evaluate` and suites take.

    The artifact is that of a suite's cell with the same steps and seed, to the bit. The
    calibration options hold for the steps of a recipe that name no calibration.
    """
    from harness.plan.forms import CalibrationForm
    from harness.records.protocol import Protocol

    if (method is None) == (recipe is None):
        raise UserError("give either --method or --recipe.")
    if recipe and set_:
        raise UserError("--set belongs to --method; write a recipe's options in its file.")
    protocol = Protocol(dtype=check_dtype(dtype))
    if out.exists():
        raise UserError(f"--out {out} exists already; name a new folder.")
    form = CalibrationForm(
        ref=calibration, sequences=sequences, length=length, batch_size=batch_size
    )
    steps = from_file(recipe, form) if recipe else [from_options(method or "", set_ or [], form)]
    summary = carry_out(
        model, steps, seed, protocol, data_root, out, streaming=streaming, verify=verify
    )
    for name, value in summary:
        typer.echo(f"{name:<12} {value}")
    say(f"Wrote {out}. Next: moebench evaluate {out}")


def from_file(path: Path, form: CalibrationForm) -> Sequence[Step]:
    """Return the checked steps of a recipe file."""
    from harness.plan.check import check_calibration, check_step
    from harness.plan.suite import Suite

    suite = Suite.load_recipe(path, form)
    [_, recipe] = suite.recipes
    for position, step in enumerate(recipe.steps):
        check_step(suite, step, ("steps", position))
        check_calibration(suite, step, ("steps", position))
    return recipe.steps


def from_options(method: str, settings: Sequence[str], form: CalibrationForm) -> Step:
    """Return one step from `--method` and `--set`, its names checked."""
    from harness.calibration.corpora.draw import CORPORA
    from harness.errors import unknown
    from harness.method import registry
    from harness.plan.find import calibration_file
    from harness.plan.suite import Step

    fields = registry.method(method, where="--method").model_fields
    options: dict[str, Any] = {}
    for name, value in map(setting, settings):
        if name in options:
            raise UserError(f"--set names the option {name!r} twice; give it once.")
        options[name] = value
    for name in options.keys() & fields.keys():
        options[name] = as_list(options[name], fields[name].annotation)
    registry.build(method, options, where="--set", strict=True)
    if form.ref not in CORPORA and not calibration_file(form.ref):
        raise unknown("calibration", form.ref, CORPORA, where="--calibration")
    return Step(method, options, form)


def setting(text: str) -> tuple[str, Any]:
    """Split `option=value`; the value is read as TOML writes it, or else is a string."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"--set {text!r} is not of the form NAME=VALUE.")
    try:
        tables = parse_toml(f"value = {value}", "--set")
    except BadFile as error:
        if "TOML" in error.why:
            return name, value
        raise UserError(f"--set {quoted(name)}: {error.why}.") from None
    return name, tables["value"] if tables.keys() == {"value"} else value


@in_use()
def carry_out(
    ref: str,
    steps: Sequence[Step],
    seed: int,
    protocol: Protocol,
    data_root: Path | None,
    out: Path,
    *,
    streaming: bool = False,
    verify: bool = True,
) -> list[tuple[str, str]]:
    """Compress and save as a suite's cell does; return names and values that sum it up.

    Raises:
        UserError: the artifact cannot be opened again; nothing of it is left then.
    """
    from harness.places import cache_folder, data_root_of, prepare_environment

    prepare_environment([ref], data_root)

    from harness.measure.size import artifact_bytes
    from harness.model.files.reopening import reopen
    from harness.plan.cells import resolve
    from harness.run.stages.compressing import Places, compress_to
    from harness.run.stages.preparing import prepare_process
    from harness.run.ticks import pulse

    prepare_process(seed=seed, threads=protocol.threads)
    places = Places(data_root_of(ref, data_root), cache_folder())
    with pulse(say_phase) as tell:
        compression = compress_to(
            out,
            ref,
            resolve(steps, seed),
            protocol,
            places,
            say=tell,
            streaming=streaming,
            verify=verify,
        )
        tell("opening the artifact again")
        reopen(out)
    for warning in compression.warnings:
        say(f"warning: {warning}")
    rows = [("edits", str(len(compression.edits)))]
    for step in compression.recipe:
        rows.append(("step", f"{step.method}, {step.seconds or 0:.1f} s"))
    return [*rows, ("bytes", f"{artifact_bytes(out):,}"), ("artifact", str(out))]
