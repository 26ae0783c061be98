"""Errors of quantizing methods on the reference models, on calibration tokens and on others.

python -m tests.benchmarks.quantization_error rtn gptq awq --record results/benchmarks
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
import transformers

from harness.calibration.corpora.draw import tokens
from harness.calibration.statistics.inputs import Covariances
from harness.calibration.walk import Calibration
from harness.data import DataRoot
from harness.errors import Refused
from harness.method.quantization.output_errors import QuantizationErrors
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.edits import QuantizeWeights
from harness.model.files.opening import open_model
from harness.model.view import MoEModel
from tests.benchmarks.held_out import layer_errors, matrix_errors

REFERENCES = ("reference/mixtral", "reference/qwen2-moe", "reference/deepseek-v2")
SEQUENCES, LENGTH, BATCH = 64, 256, 8
OPTIONS = {"bits": 4, "group": 32}
Objective = dict[int, dict[str, float]]


def measure(ref: str, name: str) -> dict[str, Any]:
    """One method on one model, in fp32: calibrated on 64 sequences, held out on 64 others."""
    before, after = open_model(ref, dtype=torch.float32), open_model(ref, dtype=torch.float32)
    drawn = tokens(
        "reference",
        before.tokenizer,
        sequences=2 * SEQUENCES,
        length=LENGTH,
        seed=0,
        data=DataRoot(None),
    )
    seen, held_out = (
        Calibration(drawn.part(slice(start, start + SEQUENCES)), batch_size=BATCH)
        for start in (0, SEQUENCES)
    )
    (report,) = compress(after, [BoundStep(build(name, OPTIONS), seen)])
    notes = {note.name: note.data for note in report.notes}
    with torch.no_grad():
        layers = layer_errors(before, after, held_out)
        matrices = _matrices(before, after, held_out)
        objective = notes.get("quantization.error") or _objective(before, after, seen)
    return {
        "quantized": _share(before, after),
        "objective": _total(objective, "ours"),
        "objective_of_rounding": _total(objective, "rtn"),
        "blocks_below_rounding": _below(objective),
        "held_out_layer_error": round(statistics.fmean(layers.values()), 5),
        "held_out_matrix_error": matrices,
        "rounded_for_want_of_tokens": sum(
            len(names) for names in notes.get("quantization.rounded", {}).values()
        ),
    }


def _share(before: MoEModel, after: MoEModel) -> str:
    """Expert matrices quantized, of all."""
    edits = [edit for edit in after.edits if isinstance(edit, QuantizeWeights)]
    done = sum(name.startswith("experts.") for edit in edits for name in edit.matrices)
    return f"{done} of {sum(len(block.matrices('experts')) for block in before.blocks)}"


def _matrices(before: MoEModel, after: MoEModel, held_out: Calibration) -> float | None:
    """The mean over matrices; None for a method that moves scales from one to another."""
    try:
        errors = matrix_errors(before, after, held_out)
    except Refused:
        return None
    return round(statistics.fmean(e for one in errors.values() for e in one.values()), 5)


def _objective(before: MoEModel, after: MoEModel, seen: Calibration) -> Objective:
    """Of a method that looks at no token and so notes none; on the inputs of `before`."""
    scheme = next(e.scheme for e in after.edits if isinstance(e, QuantizeWeights))
    errors = QuantizationErrors(scheme)
    changed = {block.index: block for block in after.blocks}
    for block in seen.walk(before):
        done = [m for m in block.matrices() if changed[block.index].packed_scheme(m) is not None]
        if done:
            sums = block.collect(Covariances(*{matrix.part for matrix in done})).sums
            values = ((m.name, changed[block.index].weight(m)) for m in done)
            errors.add(block, sums, values)
    return errors.totals


def _total(objective: Objective, key: str) -> float:
    return round(sum(one[key] for one in objective.values()), 2)


def _below(objective: Objective) -> str:
    below = sum(one["ours"] < one["rtn"] for one in objective.values())
    return f"{below} of {len(objective)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--record", metavar="DIR", type=Path, help="write the results as JSON")
    asked = parser.parse_args()
    collected: dict[str, dict[str, Any]] = {}
    for ref in REFERENCES:
        for name in asked.methods:
            collected.setdefault(ref, {})[name] = measure(ref, name)
            print(ref, name, json.dumps(collected[ref][name]), flush=True)  # noqa: T201 - its purpose
    if asked.record:
        asked.record.mkdir(parents=True, exist_ok=True)
        data = {
            "benchmark": "quantization-error",
            "options": OPTIONS,
            "sequences": SEQUENCES,
            "length": LENGTH,
            "dtype": "float32",
            "models": collected,
            "machine": {"torch": torch.__version__, "transformers": transformers.__version__},
        }
        text = json.dumps(data, indent=2) + "\n"
        (asked.record / "quantization-error.json").write_text(text)


if __name__ == "__main__":
    main()
