"""Uses of files: a verb's command line, and the numbers that it gives, each under its identity.

An identity is all that says which number it is: the cell's id and the basis of its data, the sha256
of the model and of the items that were evaluated. Two numbers of one identity are the same number.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.model.checkpoint import checkpoint_sha256
from harness.records.store import Store
from tests.faults.calls import Called
from tests.faults.world import OUT

Numbers = Mapping[str, str]
"""Numbers as text, by their identity."""
_DATA = ("--data-root", "data")
_ALL = ("--tasks", "boolq,piqa", "--perplexity", "wikitext2", "--limit", "4", "--json", *_DATA)
_RECIPE = ("--recipe", "suite/recipe.toml", "--out", OUT)
_ROW = "freq*"


@dataclass(frozen=True)
class Use:
    """One way in which a verb reads files."""

    arguments: tuple[str, ...]
    numbers: Callable[[Called], Numbers]
    makes: bool = False
    """True where it makes a folder, of which nothing may be there after an error."""
    results: str = ""
    """Folder of the results that a run writes."""


def _evaluated(model: str) -> Callable[[Called], Numbers]:
    def numbers(called: Called) -> Numbers:
        try:
            sha256 = checkpoint_sha256(Path(model))
        except UserError as error:  # evaluating it was no error
            sha256 = f"none: {error}"
        results = json.loads(called.out)
        every = [*results["tasks"].values(), *results["perplexity"].values()]
        return {
            f"{sha256} {one.get('task', one.get('text'))} {one['data']}": _timeless(one)
            for one in every
        }

    return numbers


def _timeless(result: dict[str, Any]) -> str:
    return json.dumps(
        {key: result[key] for key in sorted(result) if key not in ("seconds", "note")}
    )


def _compressed(called: Called) -> Numbers:
    manifest = json.loads(Path(OUT, "edits.json").read_text())
    asked = {key: manifest.get(key) for key in ("base", "recipe", "calibration")}
    asked["base"] = asked["base"]["sha256"]
    return {json.dumps(asked, sort_keys=True): _files(called)["out"]}


def _files(called: Called) -> Numbers:
    digest = hashlib.sha256()
    for file in sorted(Path(OUT).rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return {"out": digest.hexdigest()}


def _run(results: str) -> Callable[[Called], Numbers]:
    def numbers(called: Called) -> Numbers:
        store = Store(Path(results, "tiny"))
        every = {}
        for record in store.planned():
            data = record.basis.data if record.basis else None
            values = {
                "tasks": {name: _timeless(one.model_dump()) for name, one in record.tasks.items()},
                "perplexity": {name: one.value for name, one in record.perplexity.items()},
                "edits": record.edits,
                "size": record.size.model_dump() if record.size else None,
                "status": record.status,
            }
            every[f"{record.cell} {data}"] = json.dumps(values, sort_keys=True)
        return every

    return numbers


def _rows(*names: str) -> Callable[[Called], Numbers]:
    """The values of CSV on stdout, by their column and by the columns that name their row."""

    def numbers(called: Called) -> Numbers:
        every: dict[str, str] = {}
        for number, row in enumerate(csv.DictReader(io.StringIO(called.out))):
            place = " ".join([str(number), *(row[name] for name in names)])
            every |= {f"{place} {column}": value for column, value in row.items() if value}
        return every

    return numbers


def _planned(called: Called) -> Numbers:
    """What a dry run says of each cell, by its id."""
    lines = re.finditer(r"^cell \S+  (\S+)  .*?  (seed \d+  .*)$", called.out, re.MULTILINE)
    return {line[1]: line[2] for line in lines}


def _lines(called: Called) -> Numbers:
    return {f"line {number}": line for number, line in enumerate(called.out.splitlines())}


def _whole(called: Called) -> Numbers:
    return {"all": called.out}


def _archived(called: Called) -> Numbers:
    return {path.name: path.read_bytes().hex() for path in Path("results/tiny").glob("*.gz")}


def _drawn(called: Called) -> Numbers:
    return dict.fromkeys(called.out.splitlines(), "")


def uses(cell: str) -> dict[str, Use]:
    """Return all uses by name.

    Args:
        cell: Id of a cell of the results.
    """
    spread = ("--model", "artifact", *_RECIPE, "--streaming")
    tokens = ("--model", "base", "--method", "wanda", "--set", "sparsity=0.5", "--out", OUT)
    run = ("run", "suite/tiny.toml", *_DATA)
    old = ("--baseline", "before/tiny")
    packed = ("--results", "archived")
    return {
        "evaluate": Use(("evaluate", "base", *_ALL), _evaluated("base")),
        "evaluate artifact": Use(("evaluate", "artifact", *_ALL), _evaluated("artifact")),
        "evaluate unverified": Use(
            ("evaluate", "artifact", "--no-verify", *_ALL), _evaluated("artifact")
        ),
        "compress": Use(("compress", "--model", "base", *_RECIPE), _compressed, True),
        "compress artifact": Use(("compress", *spread), _compressed, True),
        "compress saved": Use(
            ("compress", *tokens, "--calibration", "tokens/saved.safetensors"), _compressed, True
        ),
        "compress plain": Use(
            ("compress", *tokens, "--calibration", "tokens/plain.safetensors"), _compressed, True
        ),
        "export": Use(("export", "artifact", "--to", "hf", "--out", OUT), _files, True),
        "run": Use((*run, "--results", OUT, "--only", _ROW), _run(OUT), results=OUT),
        "run again": Use(run, _run("results"), results="results"),
        "run archived": Use((*run, *packed), _run("archived"), results="archived"),
        "dry run": Use((*run, "--results", OUT, "--dry-run"), _planned),
        "leaderboard": Use(("leaderboard", "tiny", "--format", "csv"), _rows("model", "row")),
        "leaderboard archived": Use(
            ("leaderboard", "tiny", "--format", "csv", *packed), _rows("model", "row")
        ),
        "board": Use(("leaderboard", "tiny"), _lines),
        "show": Use(("show", cell, "--json"), _whole),
        "show archived": Use(("show", cell, "--json", *packed), _whole),
        "gate": Use(("gate", "tiny", *old), _lines),
        "gate archived": Use(("gate", "tiny", *old, *packed), _lines),
        "verdict": Use(("verdict", "tiny", "--format", "csv"), _rows("model", "method", "column")),
        "plot": Use(("plot", "tiny"), _drawn),
        "archive": Use(("archive", "tiny"), _archived),
    }
